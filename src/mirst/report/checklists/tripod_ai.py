"""The items of TRIPOD+AI, for studies that develop or evaluate a prediction model."""

from mirst.report.checklists import data_answers as data
from mirst.report.checklists import model_answers as model
from mirst.report.checklists import result_answers as result
from mirst.report.checklists.claim import VALIDATE
from mirst.report.checklists.items import Checklist, Item

INTRODUCTION, METHODS, OPEN = "Introduction", "Methods", "Open science"
PUBLIC, RESULTS, DISCUSSION = "Patient and public involvement", "Results", "Discussion"

TRIPOD_AI = Checklist(
    "TRIPOD+AI",
    "Collins GS, Moons KGM, Dhiman P, et al. TRIPOD+AI statement: updated guidance for reporting clinical prediction "
    "models that use regression or machine learning methods. BMJ 2024;385:e078378. "
    "https://doi.org/10.1136/bmj-2023-078378",
    (
        Item("1", "Title", "That a prediction model is developed or evaluated, for whom, and what it predicts"),
        Item("2", "Abstract", "Summary, by the checklist for abstracts"),
        Item("3a", INTRODUCTION, "Healthcare context, rationale and existing models"),
        Item("3b", INTRODUCTION, "Target population, purpose and users of the model"),
        Item("3c", INTRODUCTION, "Known inequalities of health between groups of people"),
        Item("4", INTRODUCTION, "Objectives: development, evaluation or both"),
        Item("5a", METHODS, "Sources of the data", data.sources, "Why these data, and whom they represent."),
        Item("5b", METHODS, "Dates of the data"),
        Item("6a", METHODS, "Setting and centres"),
        Item("6b", METHODS, "Criteria of eligibility"),
        Item("6c", METHODS, "Treatments"),
        Item(
            "7",
            METHODS,
            "Preprocessing and checks of quality",
            data.quality,
            "Whether they were similar for all groups of people.",
        ),
        Item("8a", METHODS, "Outcome, how and when it was assessed"),
        Item("8b", METHODS, "Who assessed the outcome, if it is subjective"),
        Item("8c", METHODS, "Blinding of the outcome"),
        Item("9a", METHODS, "Choice of the initial predictors"),
        Item("9b", METHODS, "Definition of the predictors", model.inputs, "How and when the images were taken."),
        Item("9c", METHODS, "Who assessed the predictors, if they are subjective"),
        Item("10", METHODS, "How the sample size was decided"),
        Item("11", METHODS, "How missing data were handled"),
        Item("12a", METHODS, "How the data were used and partitioned", data.partitions),
        Item("12b", METHODS, "How predictors were transformed", data.preprocessing),
        Item(
            "12c",
            METHODS,
            "Type of model, its building and internal validation",
            model.model_building,
            "Why this type of model, and how its settings were chosen.",
        ),
        Item("12d", METHODS, "Differences between clusters, such as hospitals, and how they were measured"),
        Item("12e", METHODS, "Measures of performance", result.metrics, "Why these measures; clinical utility."),
        Item("12f", METHODS, "Updating of the model after its evaluation"),
        Item("12g", METHODS, "How predictions were calculated in the evaluation", model.decision),
        Item("13", METHODS, "Imbalance of the classes", model.imbalance, "Whether probabilities were recalibrated."),
        Item("14", METHODS, "How fairness was addressed"),
        Item("15", METHODS, "Output of the model and its thresholds", model.decision, "Why this threshold."),
        Item("16", METHODS, "Differences between the data of development and evaluation"),
        Item("17", METHODS, "Ethical approval and consent"),
        Item("18a", OPEN, "Funding and the role of the funders"),
        Item("18b", OPEN, "Conflicts of interest"),
        Item("18c", OPEN, "Where the protocol is"),
        Item("18d", OPEN, "Registration"),
        Item("18e", OPEN, "Availability of the data"),
        Item("18f", OPEN, "Availability of the code of the analysis"),
        Item("19", PUBLIC, "Involvement of patients and the public"),
        Item("20a", RESULTS, "Flow of participants", data.included, "How many were excluded before, and why."),
        Item(
            "20b",
            RESULTS,
            "Characteristics of the participants",
            data.characteristics,
            "Characteristics that the data set does not name.",
        ),
        Item(
            "20c",
            RESULTS,
            "Comparison of the evaluation data with those of development",
            data.external_cases,
            "Demographics of both data sets.",
            VALIDATE,
        ),
        Item("21", RESULTS, "Participants and outcome events in each analysis", data.tested, "Patients, not images."),
        Item(
            "22",
            RESULTS,
            "The full model, so that others can use it",
            model.model_files,
            "Where the files are published, and under which licence.",
        ),
        Item("23a", RESULTS, "Performance with confidence intervals", result.performance),
        Item("23b", RESULTS, "Differences of performance between clusters", data.by_subgroup),
        Item("24", RESULTS, "Results of updating the model"),
        Item("25", DISCUSSION, "Interpretation, fairness and earlier studies"),
        Item("26", DISCUSSION, "Limitations", result.limitations, "All other limitations, and their effects."),
        Item("27a", DISCUSSION, "Input of poor quality, or missing, when the model is used"),
        Item("27b", DISCUSSION, "What users must do, and what they must know"),
        Item("27c", DISCUSSION, "Next steps of research"),
    ),
)
