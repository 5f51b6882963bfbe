//! Peers whose producers are plain threads.

use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crossbeam_channel::bounded;
use load_aware_batcher::{Batch, Batcher, Fixed, LoadFeedback};
use multistream_batch::channel::buf_batch::{BufBatchChannel, Command};

use crate::work::{BATCH, CAPACITY, LINGER, Work, handle};

/// Longer than any run.
const LONG: Duration = Duration::from_secs(60);

fn ours() -> Batcher<u64> {
    Batcher::builder()
        .policy(Fixed(BATCH))
        .max_batch_size(BATCH)
        .queue_capacity(CAPACITY)
        .linger(LINGER)
        .spawn(|batch: &mut Batch<u64>| {
            handle(batch);
            Ok(LoadFeedback::new())
        })
        .expect("it starts")
}

pub fn ours_add(work: &Work) {
    let batcher = ours();
    work.on_threads(|| {
        let producer = batcher.producer();
        move || work.produce(|item| producer.add(item).expect("it is open"))
    });
    assert!(batcher.close(LONG).is_clean());
}

pub fn ours_add_many(work: &Work) {
    let batcher = ours();
    work.on_threads(|| {
        let producer = batcher.producer();
        move || work.produce_chunks(64, |items| assert!(producer.add_many(items).is_ok()))
    });
    assert!(batcher.close(LONG).is_clean());
}

pub fn emit(work: &Work) {
    let (sender, receiver) = emit_batcher::bounded::<Vec<u64>>(CAPACITY);
    let flusher = emit_batcher::sync::spawn("flusher", receiver, |batch: Vec<u64>| {
        handle(&batch);
        Ok(())
    });
    work.on_threads(|| {
        let sender = &sender;
        move || {
            work.produce(|item| {
                // After the timeout the item is lost, and the count shows it.
                let _ = emit_batcher::sync::blocking_send(sender, item, LONG);
            });
        }
    });
    assert!(emit_batcher::sync::blocking_flush(&sender, LONG));
    drop(sender);
    flusher.expect("it starts").join().expect("it ends");
}

pub fn multistream(work: &Work) {
    let (sender, mut batches) = BufBatchChannel::new(BATCH, LINGER, CAPACITY);
    let flusher = thread::spawn(move || {
        let mut batch: Vec<u64> = Vec::with_capacity(BATCH);
        while let Ok(drain) = batches.next() {
            batch.extend(drain);
            handle(&batch);
            batch.clear();
        }
    });
    work.on_threads(|| {
        let sender = sender.clone();
        move || work.produce(|item| sender.send(Command::Append(item)).expect("it is open"))
    });
    drop(sender);
    flusher.join().expect("it ends");
}

/// A channel whose receiver takes one item at a time: the sender, and the function that takes the
/// next item.
fn drained<S: Clone + Send, R: Send + 'static>(
    work: &Work,
    (sender, receiver): (S, R),
    send: impl Fn(&S, u64) + Copy + Send,
    receive: impl Fn(&R) -> Option<u64> + Send + 'static,
) {
    let drain = thread::spawn(move || {
        while let Some(item) = receive(&receiver) {
            handle(&[item]);
        }
    });
    work.on_threads(|| {
        let sender = sender.clone();
        move || work.produce(|item| send(&sender, item))
    });
    drop(sender);
    drain.join().expect("it ends");
}

pub fn crossbeam(work: &Work) {
    drained(
        work,
        bounded(CAPACITY),
        |to, item| to.send(item).expect("it is open"),
        |from| from.recv().ok(),
    );
}

pub fn sync_channel(work: &Work) {
    let ends = mpsc::sync_channel(CAPACITY);
    drained(
        work,
        ends,
        |to, item| to.send(item).expect("it is open"),
        |from| from.recv().ok(),
    );
}

pub fn kanal(work: &Work) {
    drained(
        work,
        kanal::bounded(CAPACITY),
        |to, item| to.send(item).expect("it is open"),
        |from| from.recv().ok(),
    );
}

pub fn flume(work: &Work) {
    drained(
        work,
        flume::bounded(CAPACITY),
        |to, item| to.send(item).expect("it is open"),
        |from| from.recv().ok(),
    );
}

/// The producer that fills the vector flushes it. All others wait meanwhile.
pub fn mutex_vec(work: &Work) {
    let items = Mutex::new(Vec::with_capacity(BATCH));
    work.on_threads(|| {
        let items = &items;
        move || {
            work.produce(|item| {
                let mut items = items.lock().expect("nobody panics");
                items.push(item);
                if items.len() == BATCH {
                    handle(&items);
                    items.clear();
                }
            });
        }
    });
    handle(&items.into_inner().expect("nobody panics"));
}

/// The cost of the paced producer itself.
pub fn nothing(work: &Work) {
    work.on_threads(|| {
        || {
            work.produce(|item| {
                std::hint::black_box(item);
            })
        }
    });
}
