"""The items of CLAIM, the Checklist for Artificial Intelligence in Medical Imaging, as updated in 2024."""

from mirst.report.checklists import data_answers as data
from mirst.report.checklists import model_answers as model
from mirst.report.checklists import result_answers as result
from mirst.report.checklists.items import Checklist, Item

VALIDATE = "mirst validate RESULTS --data OTHER"

STUDY_DESIGN, DATA, REFERENCE = "Methods: study design", "Methods: data", "Methods: reference standard"
PARTS, TESTING, MODEL = "Methods: data partitions", "Methods: testing data", "Methods: model"
TRAINING, EVALUATION = "Methods: training", "Methods: evaluation"
CASES, PERFORMANCE = "Results: data", "Results: model performance"
DISCUSSION, OTHER = "Discussion", "Other information"

CLAIM = Checklist(
    "CLAIM 2024",
    "Tejani AS, Klontzas ME, Gatti AA, et al. Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 "
    "Update. Radiology: Artificial Intelligence 2024;6(4):e240300. https://doi.org/10.1148/ryai.240300",
    (
        Item("1", "Title", "That the study is about AI, and of which kind"),
        Item("2", "Abstract", "Summary of design, methods, results and conclusions"),
        Item("3", "Introduction", "Background, intended use and role of the AI"),
        Item("4", "Introduction", "Aims and hypotheses"),
        Item("5", STUDY_DESIGN, "Prospective or retrospective"),
        Item("6", STUDY_DESIGN, "Goal of the study"),
        Item("7", DATA, "Sources of the data", data.sources, "Where, when and from whom they were collected."),
        Item("8", DATA, "Criteria of inclusion and exclusion"),
        Item("9", DATA, "Preprocessing", data.preprocessing, "What was done to the images before mirst read them."),
        Item("10", DATA, "How subsets of the data were selected"),
        Item("11", DATA, "De-identification"),
        Item("12", DATA, "How missing data were handled"),
        Item("13", DATA, "How the images were acquired"),
        Item("14", REFERENCE, "How the reference standard was obtained"),
        Item("15", REFERENCE, "Why this reference standard"),
        Item("16", REFERENCE, "Who made the annotations"),
        Item("17", REFERENCE, "How the test set was annotated"),
        Item("18", REFERENCE, "Variability between and within annotators"),
        Item("19", PARTS, "How data were assigned to partitions", data.partitions),
        Item(
            "20",
            PARTS,
            "Level at which partitions are disjoint",
            data.disjoint,
            "Whether the data set names the patient of every image.",
        ),
        Item("21", TESTING, "Intended sample size"),
        Item("22", MODEL, "Description of the model", model.description, "The layers, if the model is your own."),
        Item("23", MODEL, "Software and its versions", model.software),
        Item("24", MODEL, "Initial parameters", model.initialization),
        Item("25", TRAINING, "How the models are trained", model.training),
        Item("26", TRAINING, "How the final model is selected", model.selection),
        Item("27", TRAINING, "Ensembles", model.ensembles),
        Item("28", EVALUATION, "Metrics", result.metrics, "Why these metrics suit the clinical task."),
        Item("29", EVALUATION, "Statistical significance and uncertainty", result.uncertainty),
        Item("30", EVALUATION, "Robustness or sensitivity", result.robustness),
        Item("31", EVALUATION, "Methods that explain predictions"),
        Item("32", EVALUATION, "Evaluation on internal data", data.internal),
        Item(
            "33",
            EVALUATION,
            "Testing on external data",
            result.external,
            "How the other data set differs in origin.",
            VALIDATE,
        ),
        Item("34", EVALUATION, "Registration of the trial"),
        Item("35", CASES, "Numbers included and excluded", data.included, "How many were excluded before, and why."),
        Item(
            "36",
            CASES,
            "Characteristics of the cases in each partition",
            data.characteristics,
            "Characteristics that the data set does not name, and those of each partition.",
        ),
        Item("37", PERFORMANCE, "Metrics with their uncertainty", result.performance),
        Item("38", PERFORMANCE, "Diagnostic performance and its precision", result.diagnostic),
        Item("39", PERFORMANCE, "Analysis of wrong results", result.failures, "What these images have in common."),
        Item("40", DISCUSSION, "Limitations", result.limitations, "All other limitations."),
        Item("41", DISCUSSION, "Implications for practice"),
        Item("42", OTHER, "Protocol or further technical details", result.settings, "The protocol of the study."),
        Item("43", OTHER, "Availability of software, models and data"),
        Item("44", OTHER, "Funding and the role of the funders"),
    ),
)
