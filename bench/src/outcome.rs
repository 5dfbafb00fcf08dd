//! What a scenario found, and how it is written.

use serde::{Deserialize, Serialize};

use crate::{
    drive::Samples,
    probe::Usage,
    process::Memory,
    stats::{Latencies, count},
};

/// Which way is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Throughput.
    Higher,
    /// Times, work, memory.
    Lower,
    /// Neither, as with counts: no ratio is shown.
    Neither,
}

/// One line of the table: a value or several of a kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is, with the unit.
    pub name: String,
    /// The values.
    pub values: Vec<f64>,
    /// Which way is good.
    pub better: Better,
    /// What Rhizome aims at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim: Option<String>,
}

/// What one scenario found on one server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario's name.
    pub scenario: String,
    /// What was done, in words.
    pub what: String,
    /// Operations that went well while it was measured.
    pub operations: usize,
    /// Operations that went wrong.
    pub errors: u64,
    /// What the first of them said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
    /// How long was measured.
    pub seconds: f64,
    /// The results.
    pub figures: Vec<Figure>,
    /// The servers' memory afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
}

impl Outcome {
    /// An outcome without figures yet.
    pub fn new(samples: &Samples, usage: &Usage, what: impl Into<String>) -> Self {
        Self {
            scenario: String::new(),
            what: what.into(),
            operations: samples.latencies.len(),
            errors: samples.errors,
            first_error: samples.first_error.clone(),
            seconds: usage.wall.as_secs_f64(),
            figures: Vec::new(),
            memory: None,
        }
    }

    /// Adds a figure.
    #[must_use]
    pub fn figure(mut self, name: &str, values: Vec<f64>, better: Better) -> Self {
        self.figures.push(Figure {
            name: name.to_owned(),
            values,
            better,
            aim: None,
        });
        self
    }

    /// Says what the last figure should be.
    #[must_use]
    pub fn aim(mut self, aim: &str) -> Self {
        if let Some(figure) = self.figures.last_mut() {
            figure.aim = Some(aim.to_owned());
        }
        self
    }

    /// Adds the percentiles of `latencies`.
    #[must_use]
    pub fn latency(self, name: &str, latencies: &Latencies) -> Self {
        let values = [50.0, 90.0, 99.0].map(|percent| latencies.percentile(percent));
        let values: Option<Vec<f64>> = values.into_iter().collect();
        self.figure(
            &format!("{name}: p50 / p90 / p99, ms"),
            values.unwrap_or_default(),
            Better::Lower,
        )
    }

    /// Adds what an operation cost: in the servers, in their database, in this tool.
    #[must_use]
    pub fn cost(self, usage: &Usage, operations: usize, each: &str) -> Self {
        let share = |used: std::time::Duration| {
            used.as_secs_f64() * 1000.0 / count(operations).max(f64::MIN_POSITIVE)
        };
        if operations == 0 {
            return self;
        }
        let mut outcome = self;
        if let Some(server) = usage.server {
            outcome = outcome.figure(
                &format!("CPU ms {each}"),
                vec![share(server)],
                Better::Lower,
            );
        }
        if let Some(database) = usage.database {
            let name = format!("CPU ms {each}, database");
            outcome = outcome.figure(&name, vec![share(database)], Better::Lower);
        }
        outcome.own_cost(vec![share(usage.own)], each)
    }

    fn own_cost(self, values: Vec<f64>, each: &str) -> Self {
        self.figure(
            &format!("CPU ms {each}, this tool"),
            values,
            Better::Neither,
        )
    }
}

/// All that was found on one server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// What the server is called in the table.
    pub label: String,
    /// The outcomes, in the order of the run.
    pub outcomes: Vec<Outcome>,
    /// Scenarios that could not be run, and why.
    #[serde(default)]
    pub failed: Vec<(String, String)>,
}
