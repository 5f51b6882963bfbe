//! The batch processor of OpenTelemetry's SDK: its items are spans, far larger than 8 bytes, and it
//! drops what finds no room.

use std::time::SystemTime;

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanExporter, SpanLinks,
    SpanProcessor,
};

use crate::work::{BATCH, CAPACITY, LINGER, Work, handle};

#[derive(Debug)]
struct Count;

impl SpanExporter for Count {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let items: Vec<u64> = batch
            .iter()
            .map(|span| u64::from_be_bytes(span.parent_span_id.to_bytes()))
            .collect();
        handle(&items);
        Ok(())
    }
}

/// A sampled span that carries the item as its parent's id.
fn span(item: u64, at: SystemTime) -> SpanData {
    let (trace, id) = (TraceId::from(1), SpanId::from(1));
    SpanData {
        span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::NONE),
        parent_span_id: SpanId::from(item),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "".into(),
        start_time: at,
        end_time: at,
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: opentelemetry::InstrumentationScope::default(),
    }
}

pub fn batch_span_processor(work: &Work) {
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(CAPACITY)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(LINGER)
        .build();
    let processor = BatchSpanProcessor::builder(Count)
        .with_batch_config(config)
        .build();
    let at = SystemTime::now();
    work.on_threads(|| {
        let processor = &processor;
        move || work.produce(|item| processor.on_end(span(item, at)))
    });
    processor.shutdown().expect("it ends");
}
