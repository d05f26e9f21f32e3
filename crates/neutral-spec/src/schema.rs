//! The JSON Schema of the YAML, and the check of a value against it.
//!
//! serde reads internally tagged enums through a buffer and loses the field's path on the way, and
//! it stops at the first mistake. So a value is checked against the schema first, which knows every
//! key, type, range and description; serde then reads what cannot fail. The schema that editors get
//! from `neutral schema` is thereby the one that decides. Rules between fields: [`crate::validate`].

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::Problem;
use crate::experiment::Experiment;
use crate::field_path::FieldPath;
use crate::say::{describe, elsewhere_called, expected, format_problem, nearest, quoted};

/// The JSON Schema (2020-12) of an experiment file, for editors.
pub fn json_schema() -> Value {
    Schema::of::<Experiment>().0
}

/// The schema of a type, as a checker of values.
pub(crate) struct Schema(Value);

impl Schema {
    pub(crate) fn of<T: JsonSchema>() -> Self {
        Self(schemars::schema_for!(T).to_value())
    }

    /// Reads a value into the schema's type, or says everything that is wrong with it.
    pub(crate) fn read<T: DeserializeOwned>(&self, value: &Value) -> Result<T, Vec<Problem>> {
        let problems = self.check(value);
        if !problems.is_empty() {
            return Err(problems);
        }
        // Cannot fail: the schema was made from the same type. Were it to, the message still helps.
        T::deserialize(value).map_err(|e| vec![Problem::new(FieldPath::default(), e.to_string())])
    }

    /// All that is wrong with a value.
    pub(crate) fn check(&self, value: &Value) -> Vec<Problem> {
        let mut problems = Vec::new();
        self.visit(&self.0, value, &FieldPath::default(), &mut problems);
        problems
    }

    /// The dotted paths that can be set within a value of the type: fields and fields of fields, the
    /// absent ones too, but no `kind`, as it decides which others there are.
    pub(crate) fn keys(&self, value: &Value) -> Vec<String> {
        let mut keys = Vec::new();
        self.collect_keys(&self.0, value, "", &mut keys);
        keys
    }

    fn collect_keys(&self, schema: &Value, value: &Value, prefix: &str, keys: &mut Vec<String>) {
        let schema = variant_of(self.follow(schema), value);
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
        for (name, property) in properties.iter().filter(|(name, _)| *name != "kind") {
            let key = format!("{prefix}{name}");
            self.collect_keys(property, &value[name], &format!("{key}."), keys);
            keys.push(key);
        }
    }

    fn visit(&self, schema: &Value, value: &Value, path: &FieldPath, out: &mut Vec<Problem>) {
        if value.is_null() && nullable(schema) {
            return;
        }
        let schema = self.form_of(self.follow(schema), value);
        if let Some(variants) = schema.get("oneOf").and_then(Value::as_array) {
            return self.visit_variants(variants, value, path, out);
        }
        let found = |out: &mut Vec<Problem>| {
            let message =
                format!("found {}, expected {}", describe(value), expected(schema, value));
            out.push(Problem::new(path.clone(), message));
        };
        match (type_of(schema), value) {
            ("object", Value::Object(map)) => self.visit_object(schema, map, path, out),
            ("array", Value::Array(list)) => self.visit_list(schema, list, path, out),
            ("string", Value::String(text)) => match format_problem(schema, text) {
                Some(message) => out.push(Problem::new(path.clone(), message)),
                None if text.trim().is_empty() && schema.get("minLength").is_some() => found(out),
                None => {}
            },
            ("boolean", Value::Bool(_)) | ("", _) => {}
            ("number", Value::Number(n)) if in_range(schema, n) => {}
            ("integer", Value::Number(n)) if !n.is_f64() && in_range(schema, n) => {}
            _ => found(out),
        }
    }

    fn visit_object(
        &self,
        schema: &Value,
        map: &Map<String, Value>,
        path: &FieldPath,
        out: &mut Vec<Problem>,
    ) {
        let none = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let known: Vec<&str> = properties.keys().map(String::as_str).collect();
        let mut misspelt = Vec::new();
        for (key, value) in map {
            if let Some(property) = properties.get(key) {
                self.visit(property, value, &path.key(key), out);
            } else if let Some(any @ Value::Object(_)) = schema.get("additionalProperties") {
                self.visit(any, value, &path.key(key), out);
            } else {
                let near = nearest(key, known.iter().copied()).filter(|k| !map.contains_key(*k));
                let hint = near.map_or(String::new(), |k| format!("; did you mean `{k}`?"));
                let hint = elsewhere_called(key).map_or(hint, |ours| format!("; write {ours}"));
                misspelt.extend(near);
                let kind = map.get("kind").and_then(Value::as_str);
                let place = kind.map_or(String::new(), |k| format!(" for kind `{k}`"));
                let message =
                    format!("unknown key{place}{hint} (the keys here: {})", quoted(&known));
                out.push(Problem::new(path.key(key), message));
            }
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        for key in required.filter_map(Value::as_str) {
            if !map.contains_key(key) && !misspelt.contains(&key) {
                let about = properties[key].get("description").and_then(Value::as_str);
                let about = about.and_then(|text| text.lines().next()).unwrap_or_default();
                let wanted = expected(self.follow(&properties[key]), &Value::Null);
                let message = format!("the key `{key}` is missing, expected {wanted}: {about}");
                out.push(Problem::new(path.clone(), message));
            }
        }
    }

    fn visit_list(&self, schema: &Value, list: &[Value], path: &FieldPath, out: &mut Vec<Problem>) {
        if list.is_empty() && schema.get("minItems").is_some() {
            out.push(Problem::new(path.clone(), "found an empty list, expected one entry or more"));
        }
        let unique = schema.get("uniqueItems") == Some(&Value::Bool(true));
        for (i, value) in list.iter().enumerate() {
            if unique && list[..i].contains(value) {
                let message = format!("found {} twice, expected it once", describe(value));
                out.push(Problem::new(path.index(i), message));
            }
            self.visit(&schema["items"], value, &path.index(i), out);
        }
    }

    /// One of several words, or one of several mappings told apart by their `kind`.
    fn visit_variants(
        &self,
        variants: &[Value],
        value: &Value,
        path: &FieldPath,
        out: &mut Vec<Problem>,
    ) {
        let tagged = variants.iter().all(|v| tag(v).is_some());
        let names: Vec<&str> =
            variants.iter().filter_map(|v| tag(v).or_else(|| v.get("const")?.as_str())).collect();
        let (path, word) = match value {
            Value::Object(map) if tagged => match map.get("kind") {
                None => {
                    let message = format!("the key `kind` is missing, expected {}", one_of(&names));
                    return out.push(Problem::new(path.clone(), message));
                }
                Some(kind) => (path.key("kind"), kind),
            },
            _ if tagged => {
                let near = value.as_str().and_then(|v| nearest(v, names.iter().copied()));
                let message = format!(
                    "found {}, expected a mapping such as `{{ kind: {} }}` (the kinds: {})",
                    describe(value),
                    near.unwrap_or(names[0]),
                    quoted(&names)
                );
                return out.push(Problem::new(path.clone(), message));
            }
            word => (path.clone(), word),
        };
        match names.iter().position(|name| word.as_str() == Some(name)) {
            Some(i) if tagged => {
                let parent = path.parent().unwrap_or_default();
                self.visit(&variants[i], value, &parent, out);
            }
            Some(_) => {}
            None => {
                let near = word.as_str().and_then(|w| nearest(w, names.iter().copied()));
                let hint = near.map_or(String::new(), |n| format!("; did you mean `{n}`?"));
                let message =
                    format!("found {}, expected {}{hint}", describe(word), one_of(&names));
                out.push(Problem::new(path, message));
            }
        }
    }

    /// The schema itself, behind references and behind the choice between it and nothing.
    fn follow<'a>(&'a self, schema: &'a Value) -> &'a Value {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let target = name.strip_prefix('#').and_then(|pointer| self.0.pointer(pointer));
            return target.map_or(schema, |target| self.follow(target));
        }
        match schema.get("anyOf").and_then(Value::as_array).map(Vec::as_slice) {
            Some([some, null]) if type_of(null) == "null" => self.follow(some),
            _ => schema,
        }
    }

    /// Of the forms that a value may be written in, such as a name or a mapping, the one that it has; the first, if
    /// it has none.
    fn form_of<'a>(&'a self, schema: &'a Value, value: &Value) -> &'a Value {
        let Some(forms) = schema.get("anyOf").and_then(Value::as_array) else { return schema };
        let mapping = |form: &&Value| type_of(form) == "object";
        let forms: Vec<_> = forms.iter().map(|form| self.follow(form)).collect();
        forms.iter().find(|form| mapping(form) == value.is_object()).unwrap_or(&forms[0])
    }
}

/// The variant of a tagged enum that a value is of; the schema itself, if it is none.
fn variant_of<'a>(schema: &'a Value, value: &Value) -> &'a Value {
    let variants = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let kind = value.get("kind").and_then(Value::as_str);
    let found = variants.into_iter().find(|v| kind.is_some() && tag(v) == kind);
    found.unwrap_or(schema)
}

fn one_of(names: &[&str]) -> String {
    match names {
        [one] => format!("`{one}`"),
        names => format!("one of {}", quoted(names)),
    }
}

/// The `kind` that a variant of a tagged enum stands for.
fn tag(variant: &Value) -> Option<&str> {
    variant.pointer("/properties/kind/const")?.as_str()
}

/// The one type that is not null; none for a schema that allows anything.
pub(crate) fn type_of(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("")
        }
        _ => "",
    }
}

fn nullable(schema: &Value) -> bool {
    let types = schema.get("type").and_then(Value::as_array).into_iter().flatten();
    let choices = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    types.chain(choices.filter_map(|c| c.get("type"))).any(|name| name == "null")
}

fn in_range(schema: &Value, n: &serde_json::Number) -> bool {
    let Some(n) = n.as_f64() else { return false };
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    bound("minimum").is_none_or(|b| n >= b)
        && bound("maximum").is_none_or(|b| n <= b)
        && bound("exclusiveMinimum").is_none_or(|b| n > b)
        && bound("exclusiveMaximum").is_none_or(|b| n < b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check reads these keywords; those after the gap only inform a reader.
    const KEYWORDS: [&str; 17] = [
        "$ref",
        "anyOf",
        "oneOf",
        "const",
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "uniqueItems",
        "minLength",
        "format",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
    ];
    const INFORMATION: [&str; 6] =
        ["$schema", "$defs", "title", "description", "default", "pattern"];

    fn keywords(schema: &Value, seen: &mut Vec<String>) {
        let Some(map) = schema.as_object() else { return };
        for (key, value) in map {
            seen.push(key.clone());
            match (key.as_str(), value) {
                // For editors; the check goes by the format.
                ("pattern", _) => assert!(map.contains_key("format"), "{schema}"),
                ("minItems" | "minLength", bound) => assert_eq!(bound, 1, "{schema}"),
                ("properties" | "$defs", Value::Object(named)) => {
                    for v in named.values() {
                        keywords(v, seen);
                    }
                }
                ("anyOf" | "oneOf", Value::Array(list)) => {
                    for v in list {
                        keywords(v, seen);
                    }
                }
                ("items" | "additionalProperties", v) => keywords(v, seen),
                _ => {}
            }
        }
    }

    #[test]
    fn the_check_knows_every_keyword_that_the_schema_uses() {
        let mut seen = Vec::new();
        keywords(&json_schema(), &mut seen);
        seen.retain(|k| !KEYWORDS.contains(&k.as_str()) && !INFORMATION.contains(&k.as_str()));
        assert_eq!(seen, Vec::<String>::new());
    }

    #[test]
    fn the_schema_is_closed_and_says_what_each_field_is() {
        let schema = json_schema();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["seeds"]["minItems"], 1);
        let methods = schema["$defs"]["Method"]["oneOf"].as_array().unwrap();
        let kinds: Vec<_> = methods.iter().filter_map(tag).collect();
        let all = "finetune lora dora kl_to_base l2_sp ewc wise_ft adapter neutral_residues block_expansion";
        assert_eq!(kinds, all.split(' ').collect::<Vec<_>>());
        assert!(methods.iter().all(|m| m["additionalProperties"] == false));
        let rate = &schema["$defs"]["TrainingSpec"]["properties"]["learning_rate"];
        assert_eq!(
            (&rate["description"], &rate["exclusiveMinimum"]),
            (&"Peak learning rate.".into(), &0.into())
        );
    }
}
