// A broker whose protocol is Cloud Foundry's library brokerapi; only what a service does, in memory, is ours.
// brokerapi CATALOG: the services are those of a JSON file; standard output says where it listens. The platform logs in
// with BROKER_USERNAME and BROKER_PASSWORD.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"

	"code.cloudfoundry.org/brokerapi/v13"
	"code.cloudfoundry.org/brokerapi/v13/domain"
)

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var catalog struct{ Services []domain.Service }
	if err := json.Unmarshal(text, &catalog); err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	credentials := brokerapi.BrokerCredentials{
		Username: os.Getenv("BROKER_USERNAME"),
		Password: os.Getenv("BROKER_PASSWORD"),
	}
	fmt.Printf("listens http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, brokerapi.New(newLedger(catalog.Services), logger, credentials)))
}
