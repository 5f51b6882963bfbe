//! Who sets the batch size.

use std::fmt;

/// Who sets the batch size of every process of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The default policy: nothing is set.
    Default,
    /// The same size always.
    Fixed(usize),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("nothing set"),
            Self::Fixed(size) => write!(f, "Fixed({size})"),
        }
    }
}

impl Way {
    /// As a worker's argument.
    pub fn argument(self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::Fixed(size) => size.to_string(),
        }
    }

    pub fn from_argument(word: &str) -> Option<Self> {
        match word {
            "default" => Some(Self::Default),
            size => Some(Self::Fixed(size.parse().ok().filter(|size| *size > 0)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_given_the_way_that_was_meant() {
        for way in [Way::Default, Way::Fixed(1), Way::Fixed(20_000)] {
            assert_eq!(Way::from_argument(&way.argument()), Some(way));
        }
        assert_eq!(Way::from_argument("0"), None);
        assert_eq!(Way::from_argument("fast"), None);
    }
}
