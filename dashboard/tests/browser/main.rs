//! The page in a real browser: what it shows is what the batcher says, and the demo does what its
//! buttons say.

mod databases;
mod demo;
mod numbers;
mod page;
mod patterns;
mod webdriver;
