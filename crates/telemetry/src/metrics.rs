//! Metrics of any number of registries as one page of Prometheus text.

use std::collections::BTreeMap;

use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

/// Renders all metrics of `registries`; metrics of the same name become one family, told apart by their labels.
pub fn text<'a>(registries: impl IntoIterator<Item = &'a Registry>) -> prometheus::Result<String> {
    let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
    for mut family in registries.into_iter().flat_map(Registry::gather) {
        match families.get_mut(family.name()) {
            Some(first) => first.mut_metric().extend(family.take_metric()),
            None => drop(families.insert(family.name().to_owned(), family)),
        }
    }
    let families: Vec<MetricFamily> = families.into_values().collect();
    TextEncoder::new().encode_to_string(&families)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prometheus::IntCounter;

    use super::*;

    #[test]
    fn several_registries_make_one_page_with_one_head_for_each_name() {
        let registries = ["feed", "link"].map(|service| {
            let labels = HashMap::from([("service".to_owned(), service.to_owned())]);
            let registry = Registry::new_custom(None, Some(labels)).unwrap();
            let counter = IntCounter::new("records_total", "records").unwrap();
            counter.inc();
            registry.register(Box::new(counter)).unwrap();
            registry
        });
        let page = text(&registries).unwrap();
        assert_eq!(page.matches("# TYPE records_total counter").count(), 1, "{page}");
        assert!(
            page.contains("records_total{service=\"feed\"} 1") && page.contains("{service=\"link\"} 1"),
            "{page}"
        );
    }
}
