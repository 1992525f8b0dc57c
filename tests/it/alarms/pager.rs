//! A Prometheus of a test's own, asked as a person with a pager asks.

use std::collections::BTreeSet;

use hutong_testkit::launch::Prometheus;
use serde_json::Value as Json;

use crate::installation::{Installation, answered, until};

/// The disk of the machine is everybody's: what others write and remove there is no fault of the test's.
pub(crate) const DISK: (&str, &str) =
    ("hutong_bus_free_bytes < 10 * 1024 * 1024 * 1024", "hutong_bus_free_bytes < 0");

/// Prometheus, as a person with a pager sees it.
pub(crate) struct Pager {
    prometheus: Prometheus,
}

impl Pager {
    /// Starts to watch an installation, by the shipped rules with short times and with what `instead` puts into them.
    pub(crate) async fn of(installation: &Installation, instead: &[(&str, &str)]) -> Self {
        let mut rules = installation.ask(&["metrics", "rules", "--for", "1s", "--over", "8s"]).expect(0);
        for (shipped, short) in instead {
            assert!(rules.contains(shipped), "the rules have no {shipped}");
            rules = rules.replace(shipped, short);
        }
        Self { prometheus: Prometheus::start(&installation.address(), &rules).await.unwrap() }
    }

    pub(super) async fn ask(&self, path: &str, query: &[(&str, &str)]) -> Json {
        let url = format!("{}/api/v1/{path}", self.prometheus.url());
        let answer = reqwest::get(reqwest::Url::parse_with_params(&url, query).unwrap()).await.unwrap();
        let answer: Json = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!(answer["status"], "success", "{answer}");
        answer["data"].clone()
    }

    /// Returns what fires: each alert with the pipeline or the store that it names.
    pub(super) async fn firing(&self) -> BTreeSet<String> {
        let data = self.ask("alerts", &[]).await;
        let alerts = data["alerts"].as_array().unwrap();
        let name = |alert: &Json| {
            let label = |name: &str| alert["labels"][name].as_str().map(str::to_owned);
            let subject = label("pipeline")
                .or(label("store"))
                .or(label("capture"))
                .or(label("used_for"))
                .unwrap_or_default();
            format!("{} {subject}", label("alertname").unwrap()).trim().to_owned()
        };
        alerts.iter().filter(|alert| alert["state"] == "firing").map(name).collect()
    }

    pub(crate) async fn fires(&self, alerts: &[&str]) {
        let what = format!("{alerts:?} fire");
        until(&what, async || {
            let firing = self.firing().await;
            alerts.iter().all(|alert| firing.contains(*alert)).then_some(())
        })
        .await;
    }

    pub(crate) async fn clear(&self) {
        let mut firing = BTreeSet::new();
        let cleared = answered(async || {
            firing = self.firing().await;
            firing.is_empty().then_some(())
        })
        .await;
        assert!(cleared.is_some(), "these fire, and do not clear: {firing:?}");
    }

    /// Returns the one value of a query now; `None` without any.
    pub(super) async fn value(&self, query: &str) -> Option<f64> {
        let data = self.ask("query", &[("query", query)]).await;
        let found = data["result"].as_array().unwrap();
        assert!(found.len() < 2, "{query}: {found:?}");
        found.first().map(|found| found["value"][1].as_str().unwrap().parse().unwrap())
    }

    /// Asserts what a query says now.
    pub(super) async fn says(&self, truths: &[(&str, f64)]) {
        for (query, truth) in truths {
            assert_eq!(self.value(query).await, Some(*truth), "{query}");
        }
    }

    /// Waits until a query has a value that it is to have.
    pub(super) async fn comes(&self, query: &str, holds: impl Fn(f64) -> bool) -> f64 {
        until(query, async || self.value(query).await.filter(|value| holds(*value))).await
    }

    /// Asserts that no sample of all that was scraped is NaN or negative, and that there are many.
    pub(super) async fn was_always_sane(&self) {
        let all =
            self.ask("query", &[("query", "{job=\"hutong\",__name__=~\"hutong_.+|process_.+\"}[30m]")]).await;
        let series = all["result"].as_array().unwrap();
        assert!(series.len() > 50, "{} series", series.len());
        for one in series {
            for sample in one["values"].as_array().unwrap() {
                let value: f64 = sample[1].as_str().unwrap().parse().unwrap();
                assert!(value >= 0.0, "{value} of {}", one["metric"]);
            }
        }
    }
}
