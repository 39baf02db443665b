#!/usr/bin/env python3
"""A candidate in Python, with nothing but the standard library: a lease and a key in etcd, over its JSON gateway.

Who creates the key leads. The key hangs on a lease that the leader keeps alive; when the lease runs out, etcd deletes the
key, and the next one creates it. The revision that created the key is epoch and fencing token at once.

    splitbrain run --candidate 'python3 etcd_lease.py' --file workloads/examples/etcd_lease.py --servers etcd

It speaks the protocol of PROTOCOL.md. Two rules are easy to miss. What is said must come in the order in which it became
true: state and output share one lock here. And a write that got no answer may still happen: it is "info", never "fail".
"""
import base64
import json
import os
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

TTL = 3  # seconds; etcd gives no less than 2
RETRY = 0.3
KEY = base64.b64encode(b"leader").decode()
HOST = os.environ["SPLITBRAIN_HOST"]
SERVERS = os.environ["SPLITBRAIN_SERVERS"].split(",")  # name=ip
ENDPOINTS = os.environ.get("ENDPOINTS", ",".join(f"http://{s.split('=')[-1]}:2379" for s in SERVERS)).split(",")
STORAGE = os.environ["SPLITBRAIN_STORAGE"].rsplit(":", 1)


class NoAnswer(Exception):
    """Nobody knows whether it happened."""


def etcd(path, body):
    """Asks the servers one after the other. Only for what may be done twice."""
    error = None
    for n, endpoint in enumerate(ENDPOINTS):
        request = urllib.request.Request(endpoint + path, json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=0.5) as answer:
                if n > 0:  # this one answers: it is asked first from now on
                    ENDPOINTS.insert(0, ENDPOINTS.pop(n))
                return json.load(answer)
        except (OSError, ValueError) as e:
            error = e
    raise NoAnswer(f"etcd: {error}")


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
        self.lease = None
        self.deadline = 0.0  # the lease is surely alive until then
        self.seen = None  # the newest write in the storage that this leader knows of
        self.storage = Storage()

    def say(self, line):
        """With the lock held: what became true is said before anything that rests on it."""
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    def depose(self, why, reign=None):
        with self.lock:
            if self.leads and reign in (None, self.leads["reign"]):
                self.say({"event": "deposed", "reign": self.leads["reign"], "why": why})
                self.leads, self.seen = None, None

    # The election.

    def elect(self):
        while True:
            try:
                self.session()
            except (NoAnswer, KeyError) as error:
                self.depose(str(error))
            time.sleep(RETRY)

    def session(self):
        sent = time.monotonic()
        lease = etcd("/v3/lease/grant", {"TTL": TTL})["ID"]
        with self.lock:
            self.lease, self.deadline = lease, sent + TTL
        while self.lease == lease:
            with self.lock:
                leads = self.leads
            if not leads:
                self.campaign(lease)
            self.keep_alive(lease)
            time.sleep(TTL / 3 if self.leads else RETRY)

    def campaign(self, lease):
        answer = etcd("/v3/kv/txn", {
            "compare": [{"target": "CREATE", "key": KEY, "create_revision": 0}],
            "success": [{"request_put": {"key": KEY, "value": KEY, "lease": lease}}],
            "failure": [{"request_range": {"key": KEY}}],
        })
        if answer.get("succeeded"):
            revision = int(answer["header"]["revision"])
        else:
            found = answer["responses"][0]["response_range"].get("kvs", [{}])[0]
            # An earlier attempt of this session may have succeeded without an answer.
            if found.get("lease") != lease:
                return
            revision = int(found["create_revision"])
        with self.lock:
            if self.lease == lease and time.monotonic() < self.deadline:
                self.reigns += 1
                self.leads = {"epoch": revision, "token": revision, "reign": self.reigns}
                self.say({"event": "elected", **self.leads})

    def keep_alive(self, lease):
        sent = time.monotonic()
        try:
            answer = etcd("/v3/lease/keepalive", {"ID": lease})
        except NoAnswer:
            return  # the deadline decides
        if int(answer["result"].get("TTL", 0)) <= 0:
            self.give_up(lease, "the lease is gone")
        else:
            with self.lock:
                self.deadline = sent + TTL

    def give_up(self, lease, why):
        self.depose(why)
        with self.lock:
            if self.lease == lease:
                self.lease = None

    def watch_deadline(self):
        while True:
            time.sleep(0.05)
            with self.lock:
                lease, late = self.lease, time.monotonic() >= self.deadline
            if lease and late:
                self.give_up(lease, "the lease was not kept alive in time")

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
            return self.resign()
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

    def resign(self):
        with self.lock:
            leads, lease = self.leads, self.lease
        if not leads:
            return {"fail": {"reason": "not-leader"}}
        self.give_up(lease, "resigned")  # before the key is gone: the next one must not meet a leader
        etcd("/v3/lease/revoke", {"ID": lease})
        return {"ok": {}}

    def run(self):
        with self.lock:
            self.say({"event": "ready"})
        for task in (self.elect, self.watch_deadline):
            threading.Thread(target=task, daemon=True).start()
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
