'use strict';
// A server of the zoo, with the interface that main.go describes: Node's module http2, for plain calls and for gRPC.

const http2 = require('node:http2');
const readline = require('node:readline');
const { SERVICE, parseOptions, parseOrder, after } = require('./options.js');

const counts = {};
const count = (result) => { counts[result] = (counts[result] || 0) + 1; };

// A stream that its client has ended is closed or destroyed, at the next turn of the event loop.
const isGone = (stream) => stream.closed || stream.destroyed;

function message(size) {
  const framed = Buffer.alloc(5 + size, 'a');
  framed[0] = 0;
  framed.writeUInt32BE(size, 1);
  return framed;
}

async function answerGRPC(stream, order) {
  const code = order.code || 0;
  const messages = order.count !== undefined ? order.count : Number(code === 0);
  const trailers = { 'grpc-status': String(code), 'grpc-message': 'as ordered' };
  const head = { ':status': 200, 'content-type': 'application/grpc' };
  if (messages === 0) {
    count(`grpc-${code}`);
    stream.respond({ ...head, ...trailers }, { endStream: true });
    return;
  }
  stream.respond(head, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers(trailers));
  for (let n = 0; n < messages; n++) {
    if (n > 0 && order.gap) await after(order.gap);
    if (isGone(stream)) break;
    stream.write(message(order.size || 0));
  }
  if (order.stall && !isGone(stream)) await new Promise((resolve) => stream.once('close', resolve));
  if (isGone(stream)) {
    count('gone');
    return;
  }
  count(`grpc-${code}`);
  stream.end();
}

function answerHTTP(stream, headers, order) {
  const status = order.status || 200;
  const size = order.size || 0;
  count(String(status));
  stream.respond({ ':status': status, 'content-length': size });
  stream.end(headers[':method'] === 'HEAD' ? undefined : Buffer.alloc(size, 'a'));
}

async function answer(stream, headers) {
  stream.on('error', () => {}); // of a client that is gone
  const isGRPC = (headers['content-type'] || '').startsWith('application/grpc');
  const order = parseOrder(headers[':path'].replace(SERVICE, '').replace(/^\//, ''));
  stream.resume();
  await new Promise((resolve) => stream.once('end', resolve).once('close', resolve));
  if (order.hang && !isGone(stream)) await new Promise((resolve) => stream.once('close', resolve));
  if (order.delay) await after(order.delay);
  if (isGone(stream)) {
    count('gone');
  } else if (order.reset !== undefined) {
    count(`reset-${order.reset}`);
    stream.close(order.reset);
  } else {
    if (order.goaway) stream.once('close', () => stream.session && stream.session.close());
    if (isGRPC) await answerGRPC(stream, order);
    else answerHTTP(stream, headers, order);
  }
}

const options = parseOptions(process.argv.slice(2));
const at = options.address.lastIndexOf(':');
const server = http2.createServer();
server.on('stream', answer);
server.on('sessionError', () => {}); // of a client that is gone
const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);
server.listen(Number(options.address.slice(at + 1)), options.address.slice(0, at).replace(/^\[|\]$/g, ''), () => say({ ready: true }));
readline.createInterface({ input: process.stdin }).on('line', () => say({ counts })).on('close', () => process.exit(0));
