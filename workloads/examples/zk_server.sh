#!/bin/sh
# One server of a ZooKeeper ensemble, from Debian's packages (zookeeper, default-jre-headless): the plan zk_election.toml
# runs it on each server's host. It is started again after a kill, in the same directory.
set -e
tick=500
{
    echo "tickTime=$tick"
    echo "initLimit=20"
    echo "syncLimit=5"
    echo "dataDir=$PWD/data"
    echo "clientPort=${CLIENT_PORT:-2181}"
    echo "admin.enableServer=false"
    # SPLITBRAIN_SERVERS is s1=10.0.0.1,s2=10.0.0.2: the number behind the s is the server's.
    echo "$SPLITBRAIN_SERVERS" | tr ',' '\n' | sed 's/^s\([0-9]*\)=\(.*\)/server.\1=\2:2888:3888/'
} >zoo.cfg
mkdir -p data
echo "${SPLITBRAIN_HOST#s}" >data/myid
# Debian's jar names those that it needs in its manifest.
exec java -Xmx64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp /usr/share/java/zookeeper.jar \
    org.apache.zookeeper.server.quorum.QuorumPeerMain zoo.cfg
