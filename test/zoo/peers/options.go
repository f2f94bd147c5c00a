package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// options are what the arguments of a peer say.
type options struct {
	address string
	calls   int
	atOnce  int
	pause   time.Duration
	body    int
	method  string
	do      []order
}

// order is what a server shall do with one call.
type order struct {
	path    string // without the leading slash
	numbers map[string]int
}

func (o order) duration(key string) time.Duration {
	return time.Duration(o.numbers[key]) * time.Millisecond
}

func (o order) number(key string, otherwise int) int {
	if n, ok := o.numbers[key]; ok {
		return n
	}
	return otherwise
}

func parseOptions(args []string) (options, error) {
	o := options{atOnce: 1}
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		var err error
		switch key {
		case "address":
			o.address = value
		case "method":
			o.method = value
		case "do":
			for _, path := range strings.Split(value, "+") {
				o.do = append(o.do, parseOrder(path))
			}
		case "calls":
			o.calls, err = strconv.Atoi(value)
		case "at-once":
			o.atOnce, err = strconv.Atoi(value)
		case "body":
			o.body, err = strconv.Atoi(value)
		case "pause":
			var ms int
			ms, err = strconv.Atoi(value)
			o.pause = time.Duration(ms) * time.Millisecond
		default:
			err = fmt.Errorf("no such key")
		}
		if err != nil {
			return o, fmt.Errorf("%s: %w", arg, err)
		}
	}
	if o.method == "" {
		o.method = "GET"
		if o.body > 0 {
			o.method = "POST"
		}
	}
	if len(o.do) == 0 {
		o.do = []order{parseOrder("size=0")}
	}
	return o, nil
}

// parseOrder reads an order; what is no KEY=NUMBER is left out.
func parseOrder(path string) order {
	o := order{path: path, numbers: map[string]int{}}
	for _, part := range strings.Split(path, ",") {
		key, value, _ := strings.Cut(part, "=")
		if n, err := strconv.Atoi(value); err == nil {
			o.numbers[key] = n
		}
	}
	return o
}
