"""Ports for servers that run as processes of their own."""

import socket


def reserved_port() -> socket.socket:
    """A port of loopback that goes to nobody else while this is open: it is bound, but a server may still listen on it.

    One that was only looked for could be another's by the time that the server has started.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved
