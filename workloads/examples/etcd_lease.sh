#!/usr/bin/env bash
# A candidate as a shell script: curl on etcd's JSON gateway, and the shell's own TCP for the storage.
#
#     splitbrain run --candidate 'bash etcd_lease.sh' --file workloads/examples/etcd_lease.sh --servers etcd
#
# Who creates the key leads, and keeps the lease alive on which the key hangs. The revision that created the key is epoch and
# fencing token. One loop does everything, so what is said always comes in the order in which it became true: it waits a
# little for a request, answers it, and then does the election's next step. It speaks the protocol of PROTOCOL.md.

ttl=3            # seconds; etcd gives no less than 2
key=bGVhZGVy     # "leader" in base64
if [ -n "$ENDPOINTS" ]; then
    IFS=, read -ra endpoints <<<"$ENDPOINTS"
else
    IFS=, read -ra endpoints <<<"$SPLITBRAIN_SERVERS" # name=ip,name=ip
    endpoints=("${endpoints[@]/#*=/http://}")
    endpoints=("${endpoints[@]/%/:2379}")
fi
lease='' token='' seen='' reign=0
due=0        # when the election's next step is to be done
deadline=0   # the lease is surely alive until then

say() { printf '%s\n' "$1"; }
answer() { say "{\"id\":$id,$1}"; }
ok() { answer "\"ok\":{$1}"; }
fail() { answer "\"fail\":{\"reason\":\"$1\"}"; }
info() { answer "\"info\":{\"reason\":\"$1\"}"; }
number() { sed -n "s/.*\"$1\":\"\{0,1\}\([0-9][0-9]*\).*/\1/p" <<<"$2"; }

# Milliseconds since boot: no clock that can be set back.
now() {
    read -r time _ </proc/uptime
    time=${time/./}0
}

# The answer of the first server that gives one. Only for what may be done twice.
etcd() {
    local endpoint
    for endpoint in "${endpoints[@]}"; do
        curl -sf -m 0.4 "$endpoint$1" -d "$2" && return
    done
    return 1
}

# The answer of the storage, on a connection of its own. Nothing is sent twice.
storage() {
    timeout 1 bash -c 'exec 3<>"/dev/tcp/${0%:*}/${0##*:}" &&
        printf "%s\n" "{\"hello\":\"$1\"}" "$2" >&3 && read -r line <&3 && echo "$line"' \
        "$SPLITBRAIN_STORAGE" "$SPLITBRAIN_HOST" "$1"
}

give_up() {
    [ -z "$token" ] || say "{\"event\":\"deposed\",\"reign\":$reign,\"why\":\"$1\"}"
    lease='' token='' seen=''
}

expire() {
    now
    if [ -n "$lease" ] && [ "$time" -ge "$deadline" ]; then
        give_up "the lease was not kept alive in time"
    fi
}

step() {
    expire
    [ "$time" -ge "$due" ] || return
    if [ -z "$lease" ]; then grant; else keep_alive; fi
    expire
    if [ -n "$lease" ] && [ -z "$token" ]; then campaign; fi
    now
    due=$((time + (${token:+700} + 300)))
}

grant() {
    local sent=$time reply
    reply=$(etcd /v3/lease/grant "{\"TTL\":$ttl}") || return
    lease=$(number ID "$reply")
    deadline=$((sent + ttl * 1000))
}

keep_alive() {
    local sent=$time reply left
    reply=$(etcd /v3/lease/keepalive "{\"ID\":$lease}") || return # the deadline decides
    left=$(number TTL "$reply")
    if [ "${left:-0}" -gt 0 ]; then deadline=$((sent + ttl * 1000)); else give_up "the lease is gone"; fi
}

campaign() {
    local reply revision
    reply=$(etcd /v3/kv/txn "{
        \"compare\": [{\"target\": \"CREATE\", \"key\": \"$key\", \"create_revision\": 0}],
        \"success\": [{\"request_put\": {\"key\": \"$key\", \"value\": \"$key\", \"lease\": $lease}}],
        \"failure\": [{\"request_range\": {\"key\": \"$key\"}}]}") || return
    case $reply in
        *'"succeeded":true'*) revision=$(number revision "$reply") ;;
        # An earlier attempt of this session may have succeeded without an answer.
        *"\"lease\":\"$lease\""*) revision=$(number create_revision "$reply") ;;
        *) return ;;
    esac
    expire
    [ -n "$lease" ] || return
    token=$revision reign=$((reign + 1)) seen=''
    say "{\"event\":\"elected\",\"epoch\":$token,\"token\":$token,\"reign\":$reign}"
}

write() {
    local reply value
    value=$(number value "$1")
    [ -n "$token" ] || { fail not-leader; return; }
    # A new leader first looks, under its token: its predecessor's writes are refused from then on.
    if [ -z "$seen" ]; then
        reply=$(storage "{\"id\":1,\"store\":\"last\",\"token\":$token}") || { fail "nothing was written yet"; return; }
        seen=$(number seq "$reply")
    fi
    # From here on it may happen, answer or no answer.
    reply=$(storage "{\"id\":1,\"store\":\"write\",\"token\":$token,\"base\":$seen,\"value\":$value}")
    case $reply in
        *'"accepted"'*) seen=$(number seq "$reply"); ok "\"token\":$token,\"seq\":$seen" ;;
        *'"rejected"'*) fail stale-token ;;
        *) info "no answer from the storage" ;;
    esac
}

resign() {
    local before=$lease
    [ -n "$token" ] || { fail not-leader; return; }
    give_up resigned # before the key is gone: the next one must not meet a leader
    if etcd /v3/lease/revoke "{\"ID\":$before}" >/dev/null; then ok; else info "no answer from etcd"; fi
}

request() {
    local reply op
    id=$(number id "$1")
    op=$(sed -n 's/.*"op":"\([a-z-]*\)".*/\1/p' <<<"$1")
    [ -n "$id" ] && [ -n "$op" ] || { echo "no request: $1" >&2; return; }
    expire
    case $op in
        observe)
            if [ -n "$token" ]; then
                ok "\"role\":\"leader\",\"epoch\":$token,\"token\":$token,\"reign\":$reign,\"leader\":\"$SPLITBRAIN_HOST\""
            else
                ok '"role":"candidate"'
            fi ;;
        write) write "$1" ;;
        read)
            if reply=$(storage '{"id":1,"store":"last"}'); then
                ok "$(sed 's/.*\("value":[0-9nul]*\).*/\1/' <<<"$reply")"
            else
                info "no answer from the storage"
            fi ;;
        campaign) ok ;; # it campaigns by itself, always
        resign) resign ;;
        *) fail unknown-op ;;
    esac
}

say '{"event":"ready"}'
begun=''
while :; do
    if IFS= read -r -t 0.1 line; then
        request "$begun$line"
        begun=''
    elif [ $? -gt 128 ]; then
        begun+=$line # the line's rest is still to come
    else
        exit 0 # the end of the input is ours
    fi
    step
done
