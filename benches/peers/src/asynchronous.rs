//! Peers whose producers are tasks, on a runtime with one worker for each processor.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use batch_aint_one::{Batcher, BatchingPolicy, Limits, OnFull, Processor};
use futures::stream::{FuturesUnordered, StreamExt};
use futures_batch::ChunksTimeoutStreamExt as _;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::work::{BATCH, CAPACITY, LINGER, TICK, Work, handle};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()
        .expect("it starts")
}

/// Tasks that send into one of tokio's channels, and a consumer at its other end.
fn through_channel<F>(work: &Work, consume: impl FnOnce(ReceiverStream<u64>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = runtime();
    let (sender, receiver) = mpsc::channel(CAPACITY);
    let consumer = runtime.spawn(consume(ReceiverStream::new(receiver)));
    for _ in 0..work.producers {
        let (work, sender) = (*work, sender.clone());
        runtime.spawn(async move { produce(work, &sender).await });
    }
    drop(sender);
    runtime.block_on(consumer).expect("it ends");
}

/// The items of one producer, at the rate of the work.
async fn produce(work: Work, sender: &mpsc::Sender<u64>) {
    let mut ticks = tokio::time::interval(TICK);
    let begun = Instant::now();
    let mut next = 0;
    while next < work.share() {
        let due = if work.rate == 0 {
            work.share()
        } else {
            work.due(begun.elapsed())
        };
        while next < due {
            sender.send(next).await.expect("it is open");
            next += 1;
        }
        if next < work.share() {
            ticks.tick().await;
        }
    }
}

pub fn tokio_stream(work: &Work) {
    through_channel(work, |items| async {
        let mut batches = pin!(tokio_stream::StreamExt::chunks_timeout(
            items, BATCH, LINGER
        ));
        while let Some(batch) = batches.next().await {
            handle(&batch);
        }
    });
}

pub fn futures_batch(work: &Work) {
    through_channel(work, |items| async {
        let mut batches = pin!(items.chunks_timeout(BATCH, LINGER));
        while let Some(batch) = batches.next().await {
            handle(&batch);
        }
    });
}

/// Keeps this many adds of one producer in flight. Peers whose add ends with the item's batch could
/// not fill a batch otherwise.
async fn in_flight<F: Future>(work: Work, add: impl Fn(u64) -> F) {
    let most = CAPACITY / work.producers;
    let mut pending = FuturesUnordered::new();
    let begun = Instant::now();
    for item in 0..work.share() {
        while work.rate > 0 && work.due(begun.elapsed()) <= item {
            // Adds in flight must be polled while this producer waits until its next item is due.
            tokio::select! {
                _ = pending.next(), if !pending.is_empty() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
        if pending.len() == most {
            pending.next().await;
        }
        pending.push(add(item));
    }
    while pending.next().await.is_some() {}
}

#[derive(Clone)]
struct Count;

impl Processor for Count {
    type Key = ();
    type Input = u64;
    type Output = ();
    type Error = String;
    type Resources = ();

    async fn acquire_resources(&self, (): ()) -> Result<(), String> {
        Ok(())
    }

    async fn process(
        &self,
        (): (),
        inputs: impl Iterator<Item = u64> + Send,
        (): (),
    ) -> Result<Vec<()>, String> {
        let batch: Vec<u64> = inputs.collect();
        handle(&batch);
        Ok(vec![(); batch.len()])
    }
}

pub fn batch_aint_one(work: &Work) {
    runtime().block_on(async {
        let limits = Limits::builder()
            .max_batch_size(BATCH)
            .max_key_concurrency(1)
            .build();
        let policy = BatchingPolicy::Duration(LINGER, OnFull::Process);
        let batcher = Batcher::builder()
            .name("peer")
            .processor(Count)
            .limits(limits)
            .batching_policy(policy)
            .build();
        let batcher = Arc::new(batcher);
        let producers: Vec<_> = (0..work.producers)
            .map(|_| {
                let (work, batcher) = (*work, Arc::clone(&batcher));
                tokio::spawn(async move { in_flight(work, |item| batcher.add((), item)).await })
            })
            .collect();
        for producer in producers {
            producer.await.expect("it ends");
        }
    });
}

pub fn batched_fn(work: &Work) {
    async fn add(item: u64) {
        let evaluate = batched_fn::batched_fn! {
            handler = |batch: Vec<u64>| -> Vec<()> {
                handle(&batch);
                vec![(); batch.len()]
            };
            config = {
                max_batch_size: BATCH,
                max_delay: LINGER.as_millis(),
                channel_cap: Some(CAPACITY),
            };
            context = {};
        };
        // A full channel loses the item, and the count shows it.
        let _ = evaluate(item).await;
    }
    runtime().block_on(async {
        let producers: Vec<_> = (0..work.producers)
            .map(|_| tokio::spawn(in_flight(*work, add)))
            .collect();
        for producer in producers {
            producer.await.expect("it ends");
        }
    });
}
