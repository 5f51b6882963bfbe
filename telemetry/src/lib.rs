#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub use load_aware_batcher;

#[cfg(any(feature = "metrics", feature = "opentelemetry"))]
mod measures;
#[cfg(feature = "metrics")]
pub mod metrics;
mod observers;
#[cfg(feature = "opentelemetry")]
pub mod opentelemetry;
#[cfg(feature = "prometheus-client")]
pub mod prometheus_client;
#[cfg(feature = "tracing")]
pub mod tracing;

pub use observers::Observers;
