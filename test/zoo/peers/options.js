'use strict';
// The arguments of the peers in JavaScript, as main.go describes them.

const SERVICE = '/zoo.Zoo/';

function parseOptions(args) {
  const given = Object.fromEntries(args.map((a) => [a.slice(0, a.indexOf('=')), a.slice(a.indexOf('=') + 1)]));
  const body = Buffer.alloc(Number(given.body || 0), 'a');
  return {
    address: given.address,
    calls: Number(given.calls || 0),
    atOnce: Number(given['at-once'] || 1),
    pause: Number(given.pause || 0),
    body,
    method: given.method || (body.length ? 'POST' : 'GET'),
    do: (given.do || 'size=0').split('+'),
  };
}

// parseOrder reads an order; what is no KEY=NUMBER is left out.
function parseOrder(path) {
  const order = {};
  for (const part of path.split(',')) {
    const [key, value] = part.split('=');
    if (/^\d+$/.test(value)) order[key] = Number(value);
  }
  return order;
}

const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

module.exports = { SERVICE, parseOptions, parseOrder, after };
