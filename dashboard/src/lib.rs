#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod builder;
mod connections;
mod control;
mod dashboard;
mod frame;
mod history;
mod json;
mod request;
mod server;
mod site;
mod watcher;

pub use load_aware_batcher;

pub use self::builder::Builder;
pub use self::dashboard::Dashboard;
