//! Which part learns from which batch.

use super::model::{CallTime, Model};
use super::probes::{Probes, Probing, is_large_probe};
use super::size_bounds::SizeBounds;

/// While the model is young, an error over this requests a probe soon.
const YOUNG_ERROR_MAX: f64 = 0.05;

/// Learns from a batch that went through, while `size` is in force.
pub(super) fn learn(
    model: &mut Model,
    size_bounds: &mut SizeBounds,
    probes: &mut Probes,
    call: CallTime,
    size: f64,
    probing: Option<Probing>,
) {
    let CallTime { items, seconds } = call;
    let error = model.error(call);
    let batch_seconds = model.expected(size);
    // Large probes have a back-off of their own. An expensive one must not delay the small probes
    // that check the ceiling.
    let is_small = matches!(probing, Some(Probing::Call | Probing::Half));
    let usual_seconds = if is_small {
        batch_seconds * items / size
    } else {
        seconds
    };
    probes.pay(seconds, usual_seconds, batch_seconds);
    match probing {
        Some(Probing::Length) => {}
        Some(Probing::Large) if is_large_probe(items, size) => {
            probes.large_probe_done(size_bounds.large_probe(model, call, size))
        }
        Some(Probing::Large) => probes.large_probe_failed(),
        Some(Probing::Call) => match model.learn_from_probe(items, error) {
            Some(true) => probes.probe_soon(),
            Some(false) => probes.probe_less(model.probes, size_bounds.in_doubt),
            None => {}
        },
        Some(Probing::Half) => {
            if model.is_surprise(error) {
                probes.probe_soon();
            }
            if model.run == 0 {
                size_bounds.half_batch(model, error, size);
                if size_bounds.in_doubt {
                    probes.doubt();
                }
            }
        }
        None => {
            let jumped = model.learn(items, error);
            if jumped {
                size_bounds.jumped(model);
                probes.jumped();
            } else if model.is_young() && error.abs() > YOUNG_ERROR_MAX {
                probes.probe_soon();
            }
        }
    }
}
