//! What a field of a request is made from.

use crate::TaskError;
use crate::field::Field;
use crate::template::Templates;
use crate::value::Value;
use crate::yaml::{Fields, Node};

/// The name of a column or a template, a function, or the value itself.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The template's name is the key's path.
    Template {
        name: String,
        source: String,
    },
    Function {
        key: String,
        field: Field,
    },
    Fixed(Value),
}

impl Source {
    pub(crate) fn read(
        fields: &mut Fields,
        prefix: &str,
        key: &str,
        templates: &mut Templates,
    ) -> Result<Option<Self>, TaskError> {
        let Some(node) = fields.take(key) else { return Ok(None) };
        if let Node::Function(function) = &node {
            let field = Field::find(function).map_err(|found| fields.wrong(key, found))?;
            return Ok(Some(Self::Function { key: format!("{prefix}{key}"), field }));
        }
        match fields.plain(key, &node)? {
            Value::Text(source) => {
                let name = format!("{prefix}{key}");
                templates.add(&name, &source).map_err(|found| fields.wrong(key, found))?;
                Ok(Some(Self::Template { name, source }))
            }
            value @ (Value::Int(_) | Value::List(_)) => Ok(Some(Self::Fixed(value))),
            Value::Map(map) if key == "doc_to_choice" => {
                Ok(Some(Self::Fixed(Value::List(map.into_values().collect()))))
            }
            other => {
                let kind = other.kind();
                Err(fields.wrong(key, format!("is {kind}; a template or a column is needed")))
            }
        }
    }
}
