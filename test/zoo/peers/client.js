'use strict';
// The clients of the zoo in JavaScript, with the interface that main.go describes: grpc-js and node (its module http2).

const { SERVICE, parseOptions, parseOrder, after } = require('./options.js');

const MAX_BODY = 200;

async function work(options, one) {
  let over = false;
  let next = 0;
  if (options.calls === 0) process.stdin.on('end', () => { over = true; }).resume();
  const worker = async () => {
    while (!over && (options.calls === 0 || next < options.calls)) {
      const path = options.do[next++ % options.do.length];
      const at = BigInt(Date.now()) * 1000000n;
      const began = process.hrtime.bigint();
      const call = await one(path, parseOrder(path));
      const us = Number((process.hrtime.bigint() - began) / 1000n);
      process.stdout.write(`${JSON.stringify({ us, do: path, ...call }).replace('{', `{"at":${at},`)}\n`);
      if (options.pause) await after(options.pause);
    }
  };
  await Promise.all(Array.from({ length: options.atOnce }, worker));
}

const shown = (body) => ({ size: body.length, body: body.toString('latin1', 0, MAX_BODY) });

async function grpcJS(options) {
  const grpc = require('@grpc/grpc-js');
  const plain = (message) => message;
  const client = new grpc.Client(options.address, grpc.credentials.createInsecure(), {
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
  });
  await work(options, (path, order) => new Promise((resolve) => {
    const limits = order.deadline ? { deadline: Date.now() + order.deadline } : {};
    const call = { code: 0, size: 0, count: 0 };
    const metadata = new grpc.Metadata();
    let handle;
    let timer;
    // The status of a call comes last.
    const ended = (status) => {
      clearTimeout(timer);
      call.code = status.code;
      call.message = status.details;
      const reasons = status.metadata.get('x-cbagent-reason');
      if (reasons.length) call.reason = reasons.join();
      resolve(call);
    };
    if (order.count === undefined) {
      handle = client.makeUnaryRequest(SERVICE + path, plain, plain, options.body, metadata, limits, (error, reply) => {
        if (reply) Object.assign(call, shown(reply));
      });
    } else {
      handle = client.makeServerStreamRequest(SERVICE + path, plain, plain, options.body, metadata, limits);
      handle.on('data', (message) => { call.count++; call.size += message.length; });
      handle.on('error', () => {}); // the status says it
    }
    handle.on('status', ended);
    if (order.cancel) timer = setTimeout(() => handle.cancel(), order.cancel);
  }));
  client.close();
}

async function node(options) {
  const http2 = require('node:http2');
  let session;
  const open = () => {
    if (session && !session.closed && !session.destroyed) return session;
    session = http2.connect(`http://${options.address}`);
    session.on('error', () => {}); // its streams say it
    session.on('goaway', function close() { this.close(); });
    return session;
  };
  const attempt = (path, order) => new Promise((resolve) => {
    const call = { code: -1, size: 0 };
    const parts = [];
    const own = open();
    const stream = own.request({ ':method': options.method, ':path': `/${path}` }, { endStream: options.body.length === 0 });
    const limit = order.deadline || order.cancel;
    const timer = limit && setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), limit);
    stream.on('response', (headers) => {
      call.status = headers[':status'];
      call.reason = headers['x-cbagent-reason'];
    });
    stream.on('data', (part) => parts.push(part));
    stream.on('error', (error) => { call.error = `${error.code}: ${error.message}`; });
    stream.on('close', () => {
      clearTimeout(timer);
      if (call.status === undefined && !call.error) call.error = `closed with ${stream.rstCode}`;
      if (call.error) delete call.status;
      // A GOAWAY refuses the streams that the server has not seen.
      const unseen = own.closed && stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM;
      resolve(unseen ? undefined : Object.assign(call, shown(Buffer.concat(parts))));
    });
    if (options.body.length) stream.end(options.body);
  });
  await work(options, async (path, order) => {
    let call;
    while (!call) call = await attempt(path, order); // again on another session, as an application must do
    return call;
  });
  session.close();
}

const clients = { 'grpc-js': grpcJS, node };
clients[process.argv[2]](parseOptions(process.argv.slice(3))).then(() => {
  // Input that has not ended must not keep the process.
  process.stdout.write('', () => process.exit(0));
}, (error) => {
  process.stderr.write(`client.js: ${error.stack}\n`);
  process.exit(1);
});
