"""The clients of the zoo in Python, with the interface that main.go describes: grpc-core (C-core) and httpx."""

import asyncio
import itertools
import json
import sys
import threading
import time

SERVICE = "/zoo.Zoo/"
MAX_BODY = 200


class Options:
    def __init__(self, arguments):
        given = dict(a.split("=", 1) for a in arguments)
        self.address = given["address"]
        self.calls = int(given.get("calls", 0))
        self.at_once = int(given.get("at-once", 1))
        self.pause = int(given.get("pause", 0)) / 1000
        self.body = b"a" * int(given.get("body", 0))
        self.method = given.get("method") or ("POST" if self.body else "GET")
        self.do = given.get("do", "size=0").split("+")


def numbers(path):
    parts = (p.partition("=") for p in path.split(","))
    return {key: int(n) for key, _, n in parts if n.isdigit()}


class Turns:
    """Deals the calls to the workers."""

    def __init__(self, options):
        self.options = options
        self.count = itertools.count()
        self.over = threading.Event()
        if options.calls == 0:
            threading.Thread(target=self.await_end, daemon=True).start()

    def await_end(self):
        sys.stdin.read()
        self.over.set()

    def next(self):
        """The order of the next call, None if there is none."""
        n = next(self.count)
        if self.over.is_set() or 0 < self.options.calls <= n:
            return None
        return self.options.do[n % len(self.options.do)]


printing = threading.Lock()


def report(do, began, call):
    """Prints a call that has just ended; began is when, by time.time_ns and time.perf_counter."""
    took = time.perf_counter() - began[1]
    line = json.dumps({"at": began[0], "us": int(took * 1e6), "do": do, **call})
    with printing:
        print(line, flush=True)


def now():
    return time.time_ns(), time.perf_counter()


def shown(body):
    return {"size": len(body), "body": body[:MAX_BODY].decode("latin-1")}


def grpc_core(options):
    import grpc

    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    channel = grpc.insecure_channel(options.address, options=unlimited)

    def one(do):
        order = numbers(do)
        deadline = order["deadline"] / 1000 if "deadline" in order else None
        call = {"code": 0, "size": 0, "count": 0}
        trailers = ()
        cancel = None
        try:
            if "count" in order:
                responses = channel.unary_stream(SERVICE + do)(options.body, timeout=deadline)
                handle = responses
            else:
                handle = channel.unary_unary(SERVICE + do).future(options.body, timeout=deadline)
                responses = None
            if "cancel" in order:
                cancel = threading.Timer(order["cancel"] / 1000, handle.cancel)
                cancel.start()
            if responses is None:
                call.update(shown(handle.result()))
                trailers = handle.trailing_metadata()
            else:
                for message in responses:
                    call["count"] += 1
                    call["size"] += len(message)
        except grpc.RpcError as error:
            call.update(code=error.code().value[0], message=error.details())
            trailers = error.trailing_metadata()
        except grpc.FutureCancelledError:
            call.update(code=grpc.StatusCode.CANCELLED.value[0], message="cancelled")
        finally:
            if cancel:
                cancel.cancel()
        reasons = [value for key, value in trailers or () if key == "x-cbagent-reason"]
        if reasons:
            call["reason"] = ",".join(reasons)
        return call

    turns = Turns(options)

    def worker():
        while (do := turns.next()) is not None:
            began = now()
            report(do, began, one(do))
            if options.pause:
                time.sleep(options.pause)

    workers = [threading.Thread(target=worker) for _ in range(options.at_once)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    channel.close()


def httpx_client(options):
    import httpx

    turns = Turns(options)

    async def one(client, do):
        order = numbers(do)
        call = {"code": -1, "size": 0}
        sending = client.request(options.method, f"http://{options.address}/{do}", content=options.body or None)
        limit = order.get("deadline", order.get("cancel"))
        try:
            response = await asyncio.wait_for(sending, limit / 1000 if limit else None)
        except (httpx.HTTPError, asyncio.TimeoutError) as error:
            call["error"] = f"{type(error).__name__}: {error}"
            return call
        call.update(status=response.status_code, reason=response.headers.get("x-cbagent-reason", ""), **shown(response.content))
        return call

    async def worker(client):
        while (do := turns.next()) is not None:
            began = now()
            report(do, began, await one(client, do))
            if options.pause:
                await asyncio.sleep(options.pause)

    async def main():
        async with httpx.AsyncClient(http1=False, http2=True, timeout=None, trust_env=False) as client:
            await asyncio.gather(*(worker(client) for _ in range(options.at_once)))

    asyncio.run(main())


CLIENTS = {"grpc-core": grpc_core, "httpx": httpx_client}

if __name__ == "__main__":
    CLIENTS[sys.argv[1]](Options(sys.argv[2:]))
