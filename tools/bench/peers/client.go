// A client in Go that sends the same GET again and again: `go-client URL AT_ONCE SECONDS`
// prints how many responses came in that time, after a warm-up.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const warmUp = 200 * time.Millisecond
const size = 1024

func main() {
	url := os.Args[1]
	atOnce, _ := strconv.Atoi(os.Args[2])
	seconds, _ := strconv.ParseFloat(os.Args[3], 64)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atOnce}}
	from := time.Now().Add(warmUp)
	to := from.Add(time.Duration(seconds * float64(time.Second)))
	var count int64
	var group sync.WaitGroup
	for i := 0; i < atOnce; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for {
				response, err := client.Get(url)
				if err != nil {
					log.Fatal(err)
				}
				body, err := io.ReadAll(response.Body)
				response.Body.Close()
				if err != nil || response.StatusCode != 200 || len(body) != size {
					log.Fatal(response.Status, len(body), err)
				}
				now := time.Now()
				if !now.Before(to) {
					return
				}
				if !now.Before(from) {
					atomic.AddInt64(&count, 1)
				}
			}
		}()
	}
	group.Wait()
	fmt.Println(count)
}
