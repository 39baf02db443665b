#!/usr/bin/python3
"""A candidate on ZooKeeper: kazoo's Election recipe, as its documentation shows it.

    splitbrain run workloads/examples/zk_election.toml

The recipe calls a function when the election is won, and gives the leadership back when the function returns. While the
connection is suspended nobody knows whether the session, and with it the leadership, is still there, so this candidate takes
the first sign of that for its end. Epoch and fencing token are the sequence number of the recipe's node, counted from 1.

It speaks the protocol of PROTOCOL.md. What is said must come in the order in which it became true: state and output share
one lock. A write that got no answer may still happen: it is "info", never "fail".
"""
import json
import os
import socket
import sys
import threading

from kazoo.client import KazooClient, KazooState

HOST = os.environ["SPLITBRAIN_HOST"]
SERVERS = os.environ["SPLITBRAIN_SERVERS"].split(",")  # name=ip
ENDPOINTS = os.environ.get("ENDPOINTS", ",".join(f"{s.split('=')[-1]}:2181" for s in SERVERS))
STORAGE = os.environ["SPLITBRAIN_STORAGE"].rsplit(":", 1)


class NoAnswer(Exception):
    """Nobody knows whether it happened."""


class Storage:
    """One connection, one request at a time. A request is never sent twice."""

    def __init__(self):
        self.lock, self.stream, self.last_id = threading.Lock(), None, 0

    def ask(self, request):
        with self.lock:
            try:
                if self.stream is None:
                    connection = socket.create_connection((STORAGE[0], int(STORAGE[1])), timeout=1)
                    self.stream = connection.makefile("rw", encoding="utf-8")
                    self.stream.write(json.dumps({"hello": HOST}) + "\n")
                self.last_id += 1
                self.stream.write(json.dumps({"id": self.last_id, **request}) + "\n")
                self.stream.flush()
                return json.loads(self.stream.readline())
            except (OSError, ValueError) as e:
                self.stream = None  # a late answer must not be taken for the next one
                raise NoAnswer(f"storage: {e}") from e


class Candidate:
    def __init__(self):
        self.lock = threading.Lock()  # of all below, and of standard output
        self.reigns = 0
        self.leads = None  # {"epoch", "token", "reign"} while it leads
        self.seen = None  # the newest write in the storage that this leader knows of
        self.over = threading.Event()  # set once the present reign is over
        self.storage = Storage()
        self.client = KazooClient(hosts=ENDPOINTS, timeout=4.0)
        self.client.add_listener(self.changed)
        self.election = self.client.Election("/election", HOST)

    def say(self, line):
        """With the lock held: what became true is said before anything that rests on it."""
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    # The election.

    def elect(self):
        self.client.start(timeout=60)
        while True:
            try:
                self.election.run(self.lead)
            except Exception as error:  # the recipe lets the client's errors through
                print(f"the election: {error!r}", file=sys.stderr)
                self.over.wait(0.1)

    def lead(self):
        with self.lock:
            if self.client.state != KazooState.CONNECTED:
                return  # it was won in a session that is in doubt already
            number = int(self.election.lock.node[-10:]) + 1
            self.over.clear()
            self.reigns += 1
            self.leads = {"epoch": number, "token": number, "reign": self.reigns}
            self.say({"event": "elected", **self.leads})
        self.over.wait()

    def changed(self, state):
        if state != KazooState.CONNECTED:
            self.depose(f"the connection is {state.lower()}")

    def depose(self, why):
        with self.lock:
            if self.leads:
                self.say({"event": "deposed", "reign": self.leads["reign"], "why": why})
                self.leads, self.seen = None, None
            self.over.set()

    # What is asked.

    def answer(self, request):
        id, op = request["id"], request["op"]
        if op == "observe":
            with self.lock:
                status = {"role": "leader", "leader": HOST, **self.leads} if self.leads else {"role": "candidate"}
                self.say({"id": id, "ok": status})
            return
        try:
            answer = self.carry_out(op, request)
        except NoAnswer as error:
            answer = {"info": {"reason": str(error)}}
        with self.lock:
            self.say({"id": id, **answer})

    def carry_out(self, op, request):
        if op == "write":
            return self.write(request["value"])
        if op == "read":
            return {"ok": {"value": self.storage.ask({"store": "last"})["value"]}}
        if op == "campaign":  # it campaigns by itself, always
            return {"ok": {}}
        if op == "resign":
            with self.lock:
                leads = self.leads
            if not leads:
                return {"fail": {"reason": "not-leader"}}
            self.depose("resigned")  # the recipe's node goes when its function has returned
            return {"ok": {}}
        return {"fail": {"reason": "unknown-op"}}

    def write(self, value):
        with self.lock:
            leads, seen = self.leads, self.seen
        if not leads:
            return {"fail": {"reason": "not-leader"}}
        if seen is None:
            # A new leader first looks, under its token: its predecessor's writes are refused from then on.
            try:
                seen = self.storage.ask({"store": "last", "token": leads["token"]})["seq"]
            except NoAnswer as error:
                return {"fail": {"reason": f"nothing was written yet: {error}"}}
        answer = self.storage.ask({"store": "write", "token": leads["token"], "base": seen, "value": value})
        if answer["result"] == "rejected":
            return {"fail": {"reason": "stale-token"}}
        with self.lock:
            if self.leads == leads:
                self.seen = max(answer["seq"], self.seen or 0)
        return {"ok": {"token": leads["token"], "seq": answer["seq"]}}

    def run(self):
        with self.lock:
            self.say({"event": "ready"})
        threading.Thread(target=self.elect, daemon=True).start()
        for line in sys.stdin:  # its end is ours
            try:
                request = json.loads(line)
                request = {"id": int(request["id"]), "op": str(request["op"]), "value": request.get("value")}
            except (ValueError, TypeError, KeyError):
                print(f"no request: {line!r}", file=sys.stderr)
                continue
            threading.Thread(target=self.answer, args=(request,), daemon=True).start()


if __name__ == "__main__":
    sys.stdin.reconfigure(errors="replace")
    Candidate().run()
    os._exit(0)
