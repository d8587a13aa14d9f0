// The probe in Go on the official runtime client; probe.py says what it answers.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Do      string          `json:"do"`
	Value   json.RawMessage `json:"value"`
	Names   []string        `json:"names"`
	Lines   []string        `json:"lines"`
	Message string          `json:"message"`
	URL     string          `json:"url"`
	Bytes   int             `json:"bytes"`
	Ms      int             `json:"ms"`
	Code    int             `json:"code"`
}

var (
	instance = newID()
	count    atomic.Int64
)

func newID() string {
	id := make([]byte, 16)
	rand.Read(id)
	return hex.EncodeToString(id)
}

func main() {
	switch os.Getenv("PROBE_INIT") {
	case "exit":
		os.Exit(7)
	case "hang":
		time.Sleep(10 * time.Minute)
	}
	lambda.Start(handle)
}

func handle(ctx context.Context, e event) (any, error) {
	n := count.Add(1)
	switch e.Do {
	case "echo":
		return e.Value, nil
	case "context":
		return describe(ctx), nil
	case "env":
		found := map[string]*string{}
		for _, name := range e.Names {
			found[name] = nil
			if value, ok := os.LookupEnv(name); ok {
				found[name] = &value
			}
		}
		return found, nil
	case "fail":
		return nil, errors.New(e.Message)
	case "panic":
		panic(e.Message)
	case "make":
		return strings.Repeat("x", e.Bytes), nil
	case "measure":
		var text string
		if err := json.Unmarshal(e.Value, &text); err != nil {
			return nil, err
		}
		return map[string]int{"length": len(text)}, nil
	case "sleep":
		time.Sleep(time.Duration(e.Ms) * time.Millisecond)
		return map[string]any{"slept": e.Ms, "id": instance}, nil
	case "hold":
		answer, err := http.Get(e.URL)
		if err != nil {
			return nil, err
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		return map[string]any{"id": instance, "gate": string(body)}, err
	case "exit":
		os.Exit(e.Code)
	case "log":
		fmt.Println(strings.Join(e.Lines, "\n"))
		return nil, nil
	case "instance":
		return map[string]any{"id": instance, "count": n}, nil
	}
	return nil, fmt.Errorf("unknown action %q", e.Do)
}

func describe(ctx context.Context) map[string]any {
	lc, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	var custom any
	if len(lc.ClientContext.Custom) > 0 {
		custom = lc.ClientContext.Custom
	}
	return map[string]any{
		"request_id":   lc.AwsRequestID,
		"arn":          lc.InvokedFunctionArn,
		"function":     lambdacontext.FunctionName,
		"version":      lambdacontext.FunctionVersion,
		"memory":       lambdacontext.MemoryLimitInMB,
		"log_group":    lambdacontext.LogGroupName,
		"log_stream":   lambdacontext.LogStreamName,
		"remaining_ms": time.Until(deadline).Milliseconds(),
		"custom":       custom,
	}
}
