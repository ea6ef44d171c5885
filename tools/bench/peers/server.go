// Go's net/http, as its documentation says: Server.Shutdown.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func work(d time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(d)
		fmt.Fprint(w, "done\n")
	}
}

func main() {
	http.HandleFunc("/", work(20*time.Millisecond))
	http.HandleFunc("/slow", work(2*time.Second))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		panic(err)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	server := &http.Server{}
	go server.Serve(listener)
	<-stop
	server.Shutdown(context.Background())
}
