// HTTP/2 and gRPC clients and servers, in a module of their own so that who builds the agent never downloads them.
module github.com/cbagent/cbagent/test/zoo/peers

go 1.26.0

require golang.org/x/net v0.62.0

require golang.org/x/text v0.43.0 // indirect
