//! A backend that needs nothing: a call costs time, and each of its items a little more.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use load_aware_batcher::{Batch, BatchError, LoadFeedback};

use crate::reading::Reading;
use crate::scene::Scene;

/// What a call costs the backend, and each of its items.
const CALL: Duration = Duration::from_millis(4);
const ITEM: Duration = Duration::from_micros(20);

/// The handler of one batcher.
pub fn handler(
    scene: Arc<Scene>,
) -> impl FnMut(&mut Batch<Reading>) -> Result<LoadFeedback, BatchError> + Send + 'static {
    move |batch| call(&scene, batch)
}

fn call(scene: &Scene, batch: &mut Batch<Reading>) -> Result<LoadFeedback, BatchError> {
    if scene.is_broken() {
        thread::sleep(CALL);
        return Err(BatchError::unavailable("the demo's backend is broken"));
    }
    let items = ITEM * u32::try_from(batch.len())?;
    let neighbours = scene.neighbours();
    thread::sleep((CALL + items).div_f64(1.0 - 0.8 * neighbours));
    for index in 0..batch.len() {
        if batch[index].value.is_none() {
            let key = batch[index].id;
            let problem = format!("null in column \"value\" of \"readings\", key {key}");
            batch.reject(index, BatchError::permanent(problem));
        }
    }
    let own = items.as_secs_f64() / (CALL + items).as_secs_f64();
    Ok(LoadFeedback::new().cpu_load((0.5 * own + 0.6 * neighbours).min(1.0)))
}
