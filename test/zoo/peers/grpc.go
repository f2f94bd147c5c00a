package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// plain passes messages on as they are. Without a name it adds nothing to the content type.
type plain struct{}

func (plain) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (plain) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
func (plain) Name() string                       { return "" }

const (
	service    = "/zoo.Zoo/"
	maxMessage = 64 << 20 // bytes
)

func grpcClient(ctx context.Context, o options) error {
	connection, err := grpc.NewClient("passthrough:///"+o.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(plain{}), grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	message := bytes.Repeat([]byte("a"), o.body)
	return work(ctx, o, func(ctx context.Context, do order) (c call) {
		var trailer metadata.MD
		var err error
		if _, stream := do.numbers["count"]; stream {
			err = c.stream(ctx, connection, do, message, grpc.Trailer(&trailer))
		} else {
			var reply []byte
			err = connection.Invoke(ctx, service+do.path, &message, &reply, grpc.Trailer(&trailer))
			c.show(reply)
		}
		s := status.Convert(err)
		c.Code, c.Message = int(s.Code()), s.Message()
		c.Reason = strings.Join(trailer.Get("x-cbagent-reason"), ",")
		return c
	})
}

// stream makes a call with a stream of responses.
func (c *call) stream(ctx context.Context, connection *grpc.ClientConn, do order, message []byte, options ...grpc.CallOption) error {
	s, err := connection.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, service+do.path, options...)
	if err != nil {
		return err
	}
	if err := s.SendMsg(&message); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for {
		var reply []byte
		if err := s.RecvMsg(&reply); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		c.Count++
		c.show(reply)
	}
}

// goneAfter is how long the client of a call whose deadline has passed may take to end it. The server sees the deadline
// too, and must not be the first.
const goneAfter = time.Second

func grpcServer(_ context.Context, o options) error {
	listener, err := net.Listen("tcp", o.address)
	if err != nil {
		return err
	}
	counts := newTally()
	server := grpc.NewServer(grpc.ForceServerCodec(plain{}), grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
			name, _ := grpc.MethodFromServerStream(s)
			err := obey(s, parseOrder(strings.TrimPrefix(name, service)))
			if s.Context().Err() == nil {
				counts.add(fmt.Sprintf("grpc-%d", status.Code(err)))
				return err
			}
			counts.add("gone")
			<-time.After(goneAfter)
			return err
		}))
	defer server.Stop()
	go func() { _ = server.Serve(listener) }() // ends with the server
	return control(counts.all)
}

// obey does what an order says.
func obey(s grpc.ServerStream, do order) error {
	var message []byte
	if err := s.RecvMsg(&message); err != nil {
		return err
	}
	if do.numbers["hang"] != 0 {
		<-s.Context().Done()
		return s.Context().Err()
	}
	if err := pause(s.Context(), do.duration("delay")); err != nil {
		return err
	}
	code := codes.Code(do.numbers["code"])
	reply := bytes.Repeat([]byte("a"), do.numbers["size"])
	count, stream := do.numbers["count"]
	if !stream && code == codes.OK {
		count = 1
	}
	for i := range count {
		if i > 0 {
			if err := pause(s.Context(), do.duration("gap")); err != nil {
				return err
			}
		}
		if err := s.SendMsg(&reply); err != nil {
			return err
		}
	}
	if do.numbers["stall"] != 0 {
		<-s.Context().Done()
		return s.Context().Err()
	}
	return status.Error(code, "as ordered") // nil for OK
}
