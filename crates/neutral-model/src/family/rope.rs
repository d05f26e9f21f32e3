//! Rotary fields, in their older and their newer form.
//!
//! Older: `rope_theta` beside `rope_scaling: {type or rope_type, factor, …}`. Newer, since
//! transformers 5: `rope_parameters: {rope_type, rope_theta, factor, …}`, for Gemma 3 one such for
//! each kind of attention.

use super::fields::Fields;
use crate::{ModelError, Rotary, RotaryScaling};

/// The rotation of all blocks.
pub(super) fn read(fields: &Fields, default_theta: f64) -> Result<Rotary, ModelError> {
    let older_theta = fields.number_if_any("rope_theta")?;
    let older = scaling(fields.object("rope_scaling")?)?;
    let Some(newer) = fields.object("rope_parameters")? else {
        let theta = older_theta.unwrap_or(default_theta);
        return Ok(Rotary { theta, scaling: older });
    };
    let rotary = parameters(newer, older_theta.unwrap_or(default_theta))?;
    let conflict = older_theta.is_some_and(|theta| theta != rotary.theta)
        || (older != RotaryScaling::None && older != rotary.scaling);
    if conflict {
        let expected =
            "rope_theta and rope_scaling say otherwise: keep one form, or make both agree";
        return Err(fields.wrong("rope_parameters", expected));
    }
    Ok(rotary)
}

/// The rotations of full and of sliding attention, in Gemma 3's fields.
pub(super) fn read_by_attention(
    fields: &Fields,
    [full, sliding]: [f64; 2],
) -> Result<[Rotary; 2], ModelError> {
    let full = fields.number_or("rope_theta", full)?;
    let sliding = fields.number_or("rope_local_base_freq", sliding)?;
    let older = scaling(fields.object("rope_scaling")?)?;
    let Some(newer) = fields.object("rope_parameters")? else {
        return Ok([Rotary { theta: full, scaling: older }, Rotary::plain(sliding)]);
    };
    let of = |name, theta| -> Result<Rotary, ModelError> {
        newer.object(name)?.map_or(Ok(Rotary::plain(theta)), |found| parameters(found, theta))
    };
    let both = [of("full_attention", full)?, of("sliding_attention", sliding)?];
    newer.finish()?;
    if older != RotaryScaling::None && older != both[0].scaling {
        let expected = "rope_scaling says otherwise: keep one form, or make both agree";
        return Err(fields.wrong("rope_parameters", expected));
    }
    Ok(both)
}

fn parameters(fields: Fields, default_theta: f64) -> Result<Rotary, ModelError> {
    let theta = fields.number_or("rope_theta", default_theta)?;
    Ok(Rotary { theta, scaling: scaling(Some(fields))? })
}

fn scaling(fields: Option<Fields>) -> Result<RotaryScaling, ModelError> {
    let Some(fields) = fields else { return Ok(RotaryScaling::None) };
    // The older name may stand beside the newer one.
    let older = fields.get("type");
    let kind = fields.get("rope_type").or(older).and_then(serde_json::Value::as_str);
    let scaling = match kind {
        Some("default") => RotaryScaling::None,
        Some("linear") => RotaryScaling::Linear { factor: fields.number("factor")? },
        Some("llama3") => RotaryScaling::Llama3 {
            factor: fields.number("factor")?,
            low_freq_factor: fields.number("low_freq_factor")?,
            high_freq_factor: fields.number("high_freq_factor")?,
            original_context: fields.number("original_max_position_embeddings")?,
        },
        _ => {
            let name = if older.is_some() { "type" } else { "rope_type" };
            return Err(fields.wrong(name, "only default, linear and llama3 can be computed here"));
        }
    };
    fields.finish()?;
    Ok(scaling)
}
