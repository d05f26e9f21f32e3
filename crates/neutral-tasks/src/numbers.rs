//! Whole numbers and fractions in one place of documents: Arrow has one type for both.

use indexmap::{IndexMap, IndexSet};

use crate::dataset::Splits;
use crate::value::{Document, Value};

/// Beyond it not every whole number is a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Within a split: where there are fractions, in a column or in lists and mappings below it, there are no whole
/// numbers.
pub(crate) fn of_one_type(documents: &mut [Document]) {
    let mut fractions: IndexSet<String> = IndexSet::new();
    each(documents, &mut |place, value| {
        if matches!(value, Value::Float(_)) && !fractions.contains(place) {
            fractions.insert(place.to_owned());
        }
    });
    each(documents, &mut |place, value| match value {
        Value::Int(n) if fractions.contains(place) => *value = Value::Float(*n as f64),
        _ => {}
    });
}

/// Over splits: numbers are what they are in the first split that has some there, which `datasets` turns all
/// others into.
pub(crate) fn as_in_the_first(splits: &mut Splits) -> Result<(), String> {
    let mut fractional: IndexMap<String, bool> = IndexMap::new();
    for (split, documents) in splits {
        let mut here: IndexMap<String, bool> = IndexMap::new();
        let mut trouble: Option<String> = None;
        each(documents, &mut |place, value| match (&*value, fractional.get(place)) {
            (Value::Int(n), Some(true)) => *value = Value::Float(*n as f64),
            (Value::Float(x), Some(false)) if x.fract() == 0.0 && x.abs() <= EXACT => {
                *value = Value::Int(*x as i64);
            }
            (Value::Float(x), Some(false)) => {
                let before = "and whole numbers in a split before it, at which `datasets` stops";
                trouble = Some(format!("has {x} at {place} in the split {split}, {before}"));
            }
            (Value::Int(_), None) if !here.contains_key(place) => {
                here.insert(place.to_owned(), false);
            }
            (Value::Float(_), None) if !here.contains_key(place) => {
                here.insert(place.to_owned(), true);
            }
            _ => {}
        });
        if let Some(found) = trouble {
            return Err(found);
        }
        fractional.extend(here);
    }
    Ok(())
}

/// Every value that holds no others, with where it is: `column`, `column[]`, `column.key`.
fn each(documents: &mut [Document], see: &mut dyn FnMut(&str, &mut Value)) {
    let mut place = String::new();
    for (column, value) in documents.iter_mut().flatten() {
        place.clear();
        place.push_str(column);
        walk(value, &mut place, see);
    }
}

fn walk(value: &mut Value, place: &mut String, see: &mut dyn FnMut(&str, &mut Value)) {
    let length = place.len();
    match value {
        Value::List(items) => {
            place.push_str("[]");
            for item in items {
                walk(item, place, see);
            }
        }
        Value::Map(map) => {
            for (key, value) in map {
                place.push('.');
                place.push_str(key);
                walk(value, place, see);
                place.truncate(length);
            }
        }
        other => see(place, other),
    }
    place.truncate(length);
}
