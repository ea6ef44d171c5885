// Go's net/http, with the answers of the server of Performance.
package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
)

func answer(path string, body []byte) {
	length := strconv.Itoa(len(body))
	http.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", length)
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(body)
	})
}

func main() {
	answer("/13", []byte("Hello, World!"))
	answer("/16384", bytes.Repeat([]byte("."), 16384))
	answer("/1048576", bytes.Repeat([]byte("."), 1048576))
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		panic(err)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	panic(http.Serve(listener, nil))
}
