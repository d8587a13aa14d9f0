// Answers with a greeting.
package main

import (
	"context"
	"log"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Name string `json:"name"`
}

type greeting struct {
	Message string `json:"message"`
	Request string `json:"request"`
}

func handle(ctx context.Context, e event) (greeting, error) {
	if e.Name == "" {
		e.Name = "world"
	}
	log.Printf("greeting %s", e.Name)
	invocation, _ := lambdacontext.FromContext(ctx)
	return greeting{Message: "Hello, " + e.Name + "!", Request: invocation.AwsRequestID}, nil
}

func main() {
	lambda.Start(handle)
}
