//! What the page may change: a named choice of the program's own, such as a load pattern.

use std::sync::{Mutex, PoisonError};

/// One choice of several.
pub(crate) struct Control {
    pub(crate) name: String,
    pub(crate) choices: Vec<String>,
    chosen: Mutex<usize>,
    apply: Box<dyn Fn(&str) + Send + Sync>,
}

impl Control {
    pub(crate) fn new(
        name: String,
        choices: Vec<String>,
        apply: Box<dyn Fn(&str) + Send + Sync>,
    ) -> Self {
        let chosen = Mutex::new(0);
        Self {
            name,
            choices,
            chosen,
            apply,
        }
    }

    /// Says whether there is such a choice.
    pub(crate) fn choose(&self, choice: &str) -> bool {
        let Some(index) = self.choices.iter().position(|known| known == choice) else {
            return false;
        };
        // Held over the call, so that what is shown is what was applied last.
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        (self.apply)(choice);
        *chosen = index;
        true
    }

    pub(crate) fn chosen(&self) -> &str {
        let chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        self.choices.get(*chosen).map_or("", String::as_str)
    }
}
