//! Moving items from the line into a batch.

use crate::batch::Batch;
use crate::flush::backlog::Backlog;
use crate::queue::channel::Singles;
use crate::queue::gate::Gate;
use crate::queue::message::{Load, Message};

impl<T> Backlog<T> {
    /// Moves items into the batch until it holds `size`, alongside those of this weight that it
    /// holds already; whether it is full, by count or by weight.
    pub(crate) fn gather(
        &mut self,
        gate: &Gate<T>,
        batch: &mut Batch<T>,
        size: usize,
        weight_before: usize,
    ) -> bool {
        let limit = gate.batch_weight_limit();
        let before = batch.items.len();
        let mut weight = weight_before;
        let mut permits = 0;
        let mut boundary = self.barriers.next_boundary();
        let mut full_by_weight = before > 0 && weight >= limit;
        while batch.items.len() < size && !full_by_weight {
            if self.incoming.gathered == boundary {
                boundary = self.pass_boundary(batch.items.len() - before);
            }
            let message = match self.incoming.take_carryover() {
                Some(message) => message,
                None if !self.lifecycle.is_open() => break,
                None => {
                    let room = (size - batch.items.len()) as u64;
                    let most = room.min(boundary - self.incoming.gathered);
                    match self.gather_singles(batch, most) {
                        Singles::All => continue,
                        Singles::Until(message) => {
                            self.incoming.left_channel(gate, &message);
                            message
                        }
                        Singles::Empty => break,
                    }
                }
            };
            let tag = message.tag;
            match message.load {
                Load::One(item) => batch.items.push(item),
                Load::Tracked(tracked) => {
                    if !batch.items.is_empty() && weight.saturating_add(tracked.weight) > limit {
                        let load = Load::Tracked(tracked);
                        self.incoming.put_back(Message { tag, load });
                        full_by_weight = true;
                        continue;
                    }
                    weight = weight.saturating_add(tracked.weight);
                    full_by_weight = weight >= limit;
                    if let Some(ticket) = tracked.ticket {
                        ticket.leave_line();
                        batch.tickets.push((batch.items.len(), ticket));
                    }
                    batch.items.push(tracked.item);
                }
                Load::Chunk(mut chunk) => {
                    let room = size - batch.items.len();
                    let taken = chunk.fitting(room, limit, batch.items.is_empty(), &mut weight);
                    full_by_weight = taken < chunk.items.len().min(room) || weight >= limit;
                    permits += taken;
                    batch.items.extend(chunk.items.drain(..taken));
                    chunk.weights.drain(..taken.min(chunk.weights.len()));
                    if !chunk.items.is_empty() {
                        let load = Load::Chunk(chunk);
                        self.incoming.put_back(Message { tag, load });
                        continue;
                    }
                    self.incoming.emptied(gate, chunk);
                }
            }
            self.incoming.gathered += 1;
        }
        if self.incoming.gathered == boundary {
            self.pass_boundary(batch.items.len() - before);
        }
        self.incoming.gathered_items += (batch.items.len() - before) as u64;
        self.incoming.give_emptied_back(gate);
        batch.course.weight = weight;
        gate.weight_left(weight - weight_before);
        gate.permits.release(permits);
        full_by_weight || batch.items.len() >= size
    }

    /// Items of single adds, from the channel straight into the batch.
    fn gather_singles(&mut self, batch: &mut Batch<T>, most: u64) -> Singles<T> {
        let before = batch.items.len();
        let end = self.incoming.outlet.take_singles(&mut batch.items, most);
        self.incoming.gathered += (batch.items.len() - before) as u64;
        end
    }

    /// A position that a flush waits for is reached, with this many items in the batch being
    /// gathered; returns the next one.
    fn pass_boundary(&mut self, in_batch: usize) -> u64 {
        let first_behind = self.incoming.gathered_items + in_batch as u64;
        self.barriers.pass(self.incoming.gathered, first_behind);
        self.barriers.next_boundary()
    }
}
