//! Which part learns from which batch.

use super::fences::Fences;
use super::model::Model;
use super::probes::{Probes, Probing, is_much_larger};

/// While the model is young, an error over this asks for a probe soon.
const YOUNG_ERROR: f64 = 0.05;

/// Learns from a batch of `n` that went through, while `size` is in force.
pub(super) fn learn(
    model: &mut Model,
    fences: &mut Fences,
    probes: &mut Probes,
    (n, time): (f64, f64),
    size: f64,
    probing: Option<Probing>,
) {
    let error = model.error(n, time);
    let batch = model.expected(size);
    // Looks have their own back-off: one that was dear must not silence those that watch the upper
    // fence.
    let is_small = matches!(probing, Some(Probing::Call | Probing::Half));
    probes.pay(time, if is_small { batch * n / size } else { time }, batch);
    match probing {
        Some(Probing::Length) => {}
        Some(Probing::Large) if is_much_larger(n, size) => {
            probes.looked(fences.large_batch(model, (n, time), size))
        }
        Some(Probing::Large) => probes.look_failed(),
        Some(Probing::Call) => match model.learn_from_probe(n, error) {
            Some(true) => probes.hurry(),
            Some(false) => probes.relax(model.probes, fences.in_doubt),
            None => {}
        },
        Some(Probing::Half) => {
            if model.is_surprise(error) {
                probes.hurry();
            }
            if model.run == 0 {
                fences.half_batch(model, error, size);
                if fences.in_doubt {
                    probes.doubt();
                }
            }
        }
        None => {
            let jumped = model.learn(n, error);
            if jumped {
                fences.jumped(model);
                probes.jumped();
            } else if model.is_young() && error.abs() > YOUNG_ERROR {
                probes.hurry();
            }
        }
    }
}
