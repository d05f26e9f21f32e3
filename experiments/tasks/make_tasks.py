#!/usr/bin/env python3
"""Writes the task files here that differ in little: subjects of MMLU, phenomena of BLiMP, languages.

    python make_tasks.py

Names are those of lm-evaluation-harness, so that scores are told under the same ones."""

from pathlib import Path

HERE = Path(__file__).parent

MMLU = {
    "humanities": """formal_logic high_school_european_history high_school_us_history high_school_world_history
        international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory
        professional_law world_religions""",
    "other": """business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing
        medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology""",
    "social_sciences": """econometrics high_school_geography high_school_government_and_politics
        high_school_macroeconomics high_school_microeconomics high_school_psychology human_sexuality
        professional_psychology public_relations security_studies sociology us_foreign_policy""",
    "stem": """abstract_algebra anatomy astronomy college_biology college_chemistry college_computer_science
        college_mathematics college_physics computer_security conceptual_physics electrical_engineering
        elementary_mathematics high_school_biology high_school_chemistry high_school_computer_science
        high_school_mathematics high_school_physics high_school_statistics machine_learning""",
}
BLIMP = """adjunct_island anaphor_gender_agreement anaphor_number_agreement animate_subject_passive
    animate_subject_trans causative complex_NP_island coordinate_structure_constraint_complex_left_branch
    coordinate_structure_constraint_object_extraction determiner_noun_agreement_1 determiner_noun_agreement_2
    determiner_noun_agreement_irregular_1 determiner_noun_agreement_irregular_2
    determiner_noun_agreement_with_adj_2 determiner_noun_agreement_with_adj_irregular_1
    determiner_noun_agreement_with_adj_irregular_2 determiner_noun_agreement_with_adjective_1
    distractor_agreement_relational_noun distractor_agreement_relative_clause drop_argument ellipsis_n_bar_1
    ellipsis_n_bar_2 existential_there_object_raising existential_there_quantifiers_1
    existential_there_quantifiers_2 existential_there_subject_raising expletive_it_object_raising inchoative
    intransitive irregular_past_participle_adjectives irregular_past_participle_verbs
    irregular_plural_subject_verb_agreement_1 irregular_plural_subject_verb_agreement_2
    left_branch_island_echo_question left_branch_island_simple_question matrix_question_npi_licensor_present
    npi_present_1 npi_present_2 only_npi_licensor_present only_npi_scope passive_1 passive_2 principle_A_c_command
    principle_A_case_1 principle_A_case_2 principle_A_domain_1 principle_A_domain_2 principle_A_domain_3
    principle_A_reconstruction regular_plural_subject_verb_agreement_1 regular_plural_subject_verb_agreement_2
    sentential_negation_npi_licensor_present sentential_negation_npi_scope sentential_subject_island
    superlative_quantifiers_1 superlative_quantifiers_2 tough_vs_raising_1 tough_vs_raising_2 transitive wh_island
    wh_questions_object_gap wh_questions_subject_gap wh_questions_subject_gap_long_distance wh_vs_that_no_gap
    wh_vs_that_no_gap_long_distance wh_vs_that_with_gap wh_vs_that_with_gap_long_distance""".split()
# Language, and its codes: of two letters, of three, and with a script.
LANGUAGES = {
    "english": ("en", "eng", "eng_Latn"),
    "french": ("fr", "fra", "fra_Latn"),
    "german": ("de", "deu", "deu_Latn"),
    "danish": ("da", "dan", "dan_Latn"),
    "hungarian": ("hu", "hun", "hun_Latn"),
    "slovak": ("sk", "slk", "slk_Latn"),
}


def write(path, **keys):
    lines = [f"{key}: {value}\n" for key, value in keys.items()]
    (HERE / path).write_text("# Written by make_tasks.py.\n" + "".join(lines))


def group(path, name, members, alias=None, by_size=None, version=None):
    """A group; with `by_size`, one that averages accuracy."""
    lines = ["# Written by make_tasks.py.\n", f"group: {name}\n"]
    lines += [f"group_alias: {alias}\n"] if alias else []
    lines += ["task:\n"] + [f"  - {member}\n" for member in members]
    if by_size is not None:
        lines.append(f"aggregate_metric_list: [{{ metric: acc, weight_by_size: {str(by_size).lower()} }}]\n")
    lines += [f"metadata: {{ version: {version} }}\n"] if version else []
    (HERE / path).write_text("".join(lines))


def main():
    for category, subjects in MMLU.items():
        group(f"mmlu/_{category}.yaml", f"mmlu_{category}", [f"mmlu_{category}_tasks"], category.replace("_", " "), True, 2)
        for subject in subjects.split():
            about = subject.replace("_", " ")
            description = f'"The following are multiple choice questions (with answers) about {about}.\\n\\n"'
            write(f"mmlu/mmlu_{subject}.yaml", include="_mmlu", task=f"mmlu_{subject}", task_alias=subject,
                  tag=f"mmlu_{category}_tasks", dataset_name=subject, description=description)
    group("mmlu/_mmlu.yaml", "mmlu", [f"mmlu_{c}" for c in ["stem", "other", "social_sciences", "humanities"]],
          by_size=True, version=2)
    for name in BLIMP:
        write(f"blimp/{name}.yaml", include="_blimp", task=f"blimp_{name}", dataset_name=name)
    group("blimp/_blimp.yaml", "blimp", [f"blimp_{name}" for name in BLIMP], by_size=False, version=2.0)
    for language, (two, three, script) in LANGUAGES.items():
        write(f"belebele/belebele_{script}.yaml", include="_belebele", task=f"belebele_{script}", dataset_name=script)
        write(f"multiblimp/multiblimp_{three}.yaml", include="_multiblimp", task=f"multiblimp_{three}", dataset_name=three)
        if two in ["en", "fr", "de"]:
            write(f"lambada/lambada_openai_mt_{two}.yaml", include="_translated", task=f"lambada_openai_mt_{two}",
                  dataset_name=two)
        if two == "en":
            members = ["arc_challenge", "hellaswag", "mmlu", "commonsense_qa"]
        else:
            write(f"arc/arc_{two}.yaml", include="../_arc_translated", task=f"arc_{two}", dataset_name=two)
            write(f"hellaswag/hellaswag_{two}.yaml", include="_translated", task=f"hellaswag_{two}", dataset_name=two)
            write(f"mmlu/m_mmlu_{two}.yaml", include="_translated", task=f"m_mmlu_{two}", dataset_name=two)
            members = [f"arc_{two}", f"hellaswag_{two}", f"m_mmlu_{two}"]
        group(f"suites/{language}.yaml", f"neutral_{language}", [*members, f"belebele_{script}"])


if __name__ == "__main__":
    main()
