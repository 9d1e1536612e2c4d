#!/usr/bin/env python3
"""Counts its visitors in PostgreSQL, which it finds by DATABASE_URL or the usual variables (PGHOST, PGUSER, PGPASSWORD, PGDATABASE).

GET /         counts a visit and says its number
GET /health   200 as soon as the database answers, 503 if it has not for half a minute
GET /healthz  200 while the database answers, 503 otherwise: whether to send visitors here
GET /livez    200 while this process answers: whether to start it again
"""
import os
import queue
import signal
import socket
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psycopg2
import psycopg2.sql

VERSION = os.environ.get("VISITS_VERSION", "unknown")
NAME = socket.gethostname()
# Any number will do; all replicas must use the same.
SCHEMA_LOCK = 4242


class Database:
    """A few connections, each used by one request at a time and made anew when it breaks."""

    def __init__(self, connections):
        self.free = queue.LifoQueue()
        for _ in range(connections):
            self.free.put(None)

    def ask(self, statement):
        connection = self.free.get()
        try:
            # A connection that lay idle may have died meanwhile, which shows only in use.
            for last in (connection is None, True):
                try:
                    if connection is None:
                        connection = self.connect()
                    with connection.cursor() as cursor:
                        cursor.execute(statement)
                        return cursor.fetchone()[0]
                except psycopg2.OperationalError:
                    if connection is not None:
                        connection.close()
                        connection = None
                    if last:
                        raise
        except psycopg2.Error:
            if connection is not None:
                connection.close()
                connection = None
            raise
        finally:
            self.free.put(connection)

    def ask_patiently(self, statement, seconds):
        until = time.monotonic() + seconds
        while True:
            try:
                return self.ask(statement)
            except psycopg2.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    @staticmethod
    def open():
        address = os.environ.get("DATABASE_URL", "")
        try:
            return psycopg2.connect(address, connect_timeout=3)
        except psycopg2.OperationalError as error:
            name = urllib.parse.urlsplit(address).path.strip("/")
            if not name or f'database "{name}" does not exist' not in str(error):
                raise
        # Nobody has made it yet; of several replicas one does.
        administration = psycopg2.connect(address, dbname="postgres", connect_timeout=3)
        administration.autocommit = True
        with administration.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", (SCHEMA_LOCK,))
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(psycopg2.sql.SQL("CREATE DATABASE {}").format(psycopg2.sql.Identifier(name)))
        administration.close()
        return psycopg2.connect(address, connect_timeout=3)

    @staticmethod
    def connect():
        connection = Database.open()
        connection.autocommit = True
        with connection.cursor() as cursor:
            # Replicas that start together must not make the table twice.
            cursor.execute("SELECT pg_advisory_lock(%s)", (SCHEMA_LOCK,))
            cursor.execute("CREATE TABLE IF NOT EXISTS visits (one boolean PRIMARY KEY DEFAULT true CHECK (one), number bigint NOT NULL)")
            cursor.execute("INSERT INTO visits (number) VALUES (0) ON CONFLICT DO NOTHING")
            cursor.execute("SELECT pg_advisory_unlock(%s)", (SCHEMA_LOCK,))
        return connection


DATABASE = Database(connections=8)


class Visits(BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            if self.path == "/livez":
                self.answer(200, "ok")
            elif self.path == "/healthz":
                DATABASE.ask("SELECT number FROM visits")
                self.answer(200, "ok")
            elif self.path == "/health":
                DATABASE.ask_patiently("SELECT number FROM visits", 30)
                self.answer(200, "ok")
            elif self.path == "/":
                number = DATABASE.ask("UPDATE visits SET number = number + 1 RETURNING number")
                self.answer(200, f"visit {number}, served by {NAME}, version {VERSION}")
            else:
                self.answer(404, "not found")
        except psycopg2.Error as error:
            self.answer(503, f"the database does not answer: {error}".strip())

    def answer(self, status, text):
        body = (text + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, form, *arguments):
        if self.path not in ("/healthz", "/livez"):
            print(self.address_string(), form % arguments)


class Server(ThreadingHTTPServer):
    # Requests that run when the server is told to stop are answered first.
    daemon_threads = False
    request_queue_size = 128


def main():
    server = Server(("", int(os.environ.get("PORT", "8080"))), Visits)
    # shutdown() waits for serve_forever(), which runs in this very thread.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"visits version {VERSION} on port {server.server_port}")
    server.serve_forever()
    server.server_close()
    print("stopped")


if __name__ == "__main__":
    main()
