// A function URL handler that streams: the official Go client's LambdaFunctionURLStreamingResponse.
package main

import (
	"context"
	"io"
	"net/http"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func main() { lambda.Start(handle) }

// Writes "first", waits for the gate in the query, writes "last".
func handle(ctx context.Context, request events.LambdaFunctionURLRequest) (*events.LambdaFunctionURLStreamingResponse, error) {
	reader, writer := io.Pipe()
	go func() {
		io.WriteString(writer, "first\n")
		if gate := request.QueryStringParameters["gate"]; gate != "" {
			if answer, err := http.Get(gate); err == nil {
				answer.Body.Close()
			}
		}
		io.WriteString(writer, "last\n")
		writer.Close()
	}()
	return &events.LambdaFunctionURLStreamingResponse{
		StatusCode: http.StatusAccepted,
		Headers:    map[string]string{"Content-Type": "text/plain", "X-Probe": "go"},
		Body:       reader,
	}, nil
}
