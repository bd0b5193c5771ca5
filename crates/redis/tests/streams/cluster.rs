//! A cluster of two nodes, one with the stream and one with its dead letters. With the feature `cluster`.

use crate::queue::{
    GROUP, Kind, LATE, Queue, Running, give_to_a_call_that_is_given_up, take, texts, until,
};
use firstseen_consumer::{Failure, Job, Source};
use firstseen_redis::{RedisOptions, RedisSource};
use firstseen_servers::Server;
use firstseen_servers::redis::{CLUSTER, url};

on_both!(a_loop_works_at_a_cluster_of_several_nodes, a_stop_at_a_cluster_gives_back);

/// The slots that the first node has; the second has the rest.
const FIRST: u16 = 8191;

struct Cluster {
    /// The node with the stream, and the other.
    nodes: [Queue; 2],
    _servers: [Server; 2],
}

impl Cluster {
    async fn start(kind: Kind) -> Self {
        let start = async || kind.start_with(&CLUSTER).await;
        let servers = [start().await, start().await];
        let node =
            |server: &Server| Queue::at(url(server), "orders".to_owned(), RedisOptions::new());
        let nodes = [node(&servers[0]), node(&servers[1])];
        let slots = |from: u16, to: u16| [from.to_string(), to.to_string()];
        for (node, [from, to]) in nodes.iter().zip([slots(0, FIRST), slots(FIRST + 1, 16383)]) {
            node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]).await;
        }
        let port = servers[1].port().to_string();
        let [_, bus] = nodes[1].ask::<[String; 2]>(&["CONFIG", "GET", "cluster-port"]).await;
        nodes[0].ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        for node in &nodes {
            until("the nodes know each other", async || {
                let info: String = node.ask(&["CLUSTER", "INFO"]).await;
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2")
            })
            .await;
        }
        let slot = async |key| nodes[0].ask::<u16>(&["CLUSTER", "KEYSLOT", key]).await;
        let (stream, dead) = (slot("orders").await, slot("orders-dead").await);
        assert!((stream <= FIRST) != (dead <= FIRST), "both are at one node");
        let nodes = match nodes {
            [a, b] if stream <= FIRST => [a, b],
            [a, b] => [b, a],
        };
        nodes[0].create_stream().await;
        Self { nodes, _servers: servers }
    }

    async fn source(&self) -> RedisSource {
        let options = self.nodes[0].options.clone().min_idle(LATE * 10);
        // By the node that does not have the stream.
        let urls = [self.nodes[1].url().to_owned()];
        RedisSource::connect_cluster(urls, "orders", GROUP, options).await.unwrap()
    }
}

async fn a_loop_works_at_a_cluster_of_several_nodes(kind: Kind) {
    let cluster = Cluster::start(kind).await;
    let [stream, dead] = &cluster.nodes;
    for n in 0..20 {
        stream.add(&n.to_string()).await;
    }
    stream.add("poison").await;
    stream.add("7").await;
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start(cluster.source().await, dir.path(), |job: Job| async move {
        if job.payload() == b"poison" { Err(Failure::retry("poison")) } else { Ok(()) }
    });
    running
        .until("all are answered", |now| {
            (now.first, now.duplicates, now.dead) == (20, 1, 1) && now.in_flight == 0
        })
        .await;
    running.stop().await;
    assert_eq!(stream.pending().await, 0);
    assert_eq!(dead.dead_fields("payload").await, ["poison"]);
}

async fn a_stop_at_a_cluster_gives_back(kind: Kind) {
    for _ in 0..10 {
        let cluster = Cluster::start(kind).await;
        let stream = &cluster.nodes[0];
        let source = cluster.source().await;
        if give_to_a_call_that_is_given_up(&source, stream).await.is_some() {
            source.stop().await.unwrap();
            let other = cluster.source().await;
            // By time it would not come before.
            assert_eq!(texts(&take(&other, 1, LATE).await), ["order-17"]);
            return;
        }
    }
    panic!("the call had ended before there was an entry, each time");
}
