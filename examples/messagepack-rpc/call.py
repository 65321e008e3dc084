"""Calls a Postroom service by MessagePack-RPC, with the package msgpack-rpc-python:

    pip install msgpack-rpc-python
    python3 call.py 127.0.0.1 7070

The package knows TCP only; the service listens there with `postroom serve --listen tcp:127.0.0.1:7070`.
"""

import sys

import msgpackrpc


def connect(host, port):
    # Strings come as str, and bytes as bytes.
    return msgpackrpc.Client(msgpackrpc.Address(host, port), unpack_encoding="utf-8")


def main(host, port):
    client = connect(host, int(port))

    # Arguments by name, as one map, or in the order of the fields.
    print("by name:", client.call("echo.echo", {"id": 7, "data": b"hello"})["id"])
    print("in order:", client.call("echo/1.echo", 8, b"hello")["id"])

    # The error is a map, whose code is for programs and whose message is for people.
    try:
        client.call("echo.fail", {"code": "tea", "message": "there is no tea"})
    except msgpackrpc.error.RPCError as error:
        told = error.args[0]
        print("error:", told["code"], "-", told["message"])

    # Nobody answers a notification.
    client.notify("echo.mirror", {"nobody": "listens"})
    print("notified")

    # Many calls at once: each has a future, and is answered when it is done.
    futures = [client.call_async("echo.mirror", number, "pipelined") for number in range(1000)]
    print("pipelined:", sum(future.get() == [number, "pipelined"] for number, future in enumerate(futures)))
    client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
