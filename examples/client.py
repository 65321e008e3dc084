"""A Postroom client, as a module and as a command: client.py [--to ADDR] PROGRAM.PROCEDURE [JSON]

PROGRAM may carry a version (stock/1.take); without one it is the highest. Bytes are {"$bin": BASE64} in JSON.
Exit status: 0 done, 1 the service answered with an error, 2 bad usage or no connection.
"""
import argparse
import base64
import json
import os
import socket
import struct
import sys

import msgpack

HEADER = struct.Struct(">IIIiiIi")  # length, program, version, procedure, type, serial, status
CALL, REPLY, DIRECTORY, DESCRIBE = 0, 1, 0x64697265, 2


class Failure(Exception):
    """An error that the service answered with: `code`, `message`, and what else it says, as `fields`."""

    def __init__(self, fields):
        super().__init__(f"{fields['code']}: {fields.get('message', '')}")
        self.code, self.fields = fields["code"], fields


class Client:
    def __init__(self, address=None, timeout=30):
        runtime = os.environ.get("XDG_RUNTIME_DIR") or "/run"
        address = address or os.environ.get("POSTROOM_ADDRESS") or f"unix:{runtime}/postroom/postroom.sock"
        form, _, rest = address.partition(":")
        if form == "unix":
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect("\0" + rest[1:] if rest.startswith("@") else rest)
        elif form == "tcp" and ":" in rest:
            host, _, port = rest.rpartition(":")
            self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout)
        else:
            raise ValueError(f"{address}: an address is unix:PATH, unix:@NAME or tcp:HOST:PORT")
        self.serial, self.input = 0, self.socket.makefile("rb")

    def call(self, program, version, procedure, arguments=None):
        """Calls a procedure by its numbers; returns its result or raises Failure."""
        self.serial += 1
        payload = msgpack.packb(arguments)
        header = HEADER.pack(HEADER.size + len(payload), program, version, procedure, CALL, self.serial, 0)
        self.socket.sendall(header + payload)
        while True:
            length, to, _, _, kind, serial, status = HEADER.unpack(self.read(HEADER.size))
            payload = self.read(length - HEADER.size)
            # A reply to program 0 announces that the service closes the connection, and why.
            if kind == REPLY and (serial == self.serial or to == 0):
                value = msgpack.unpackb(payload, strict_map_key=False)
                if status != 0:
                    raise Failure(value)
                return value

    def call_by_name(self, name, arguments=None):
        """The same by name: program.procedure or program/version.procedure."""
        wanted, _, procedure = name.partition(".")
        wanted, _, version = wanted.partition("/")
        programs = [p for p in self.call(DIRECTORY, 1, DESCRIBE)["programs"] if p["name"] == wanted]
        versions = [p for p in programs if version in ("", str(p["version"]))]
        newest = max(versions, key=lambda p: p["version"], default={"procedures": []})
        numbers = [p["number"] for p in newest["procedures"] if p["name"] == procedure]
        if not numbers:
            what = "procedure" if versions else "version" if programs else "program"
            raise Failure({"code": f"unknown_{what}", "message": f"there is no such {what}: {name}"})
        return self.call(newest["number"], newest["version"], numbers[0], arguments)

    def read(self, length):
        data = self.input.read(length)
        if len(data) < length:
            raise ConnectionError("the service closed the connection")
        return data


def main():
    parser = argparse.ArgumentParser(description="Calls a procedure of a Postroom service.")
    parser.add_argument("--to", metavar="ADDR")
    parser.add_argument("name", metavar="PROGRAM.PROCEDURE")
    parser.add_argument("arguments", metavar="JSON", nargs="?", default="null")
    given = parser.parse_args()
    unbin = lambda m: base64.b64decode(m["$bin"]) if m.keys() == {"$bin"} else m
    try:
        arguments = json.loads(given.arguments, object_hook=unbin)
        reply = Client(given.to).call_by_name(given.name, arguments)
    except Failure as failure:
        sys.exit(print(f"error: {failure}", file=sys.stderr) or 1)
    except (OSError, ValueError) as error:
        sys.exit(print(f"error: {error}", file=sys.stderr) or 2)
    print(json.dumps(reply, default=lambda b: {"$bin": base64.b64encode(b).decode()}, ensure_ascii=False))


if __name__ == "__main__":
    main()
