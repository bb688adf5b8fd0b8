"""A human study: raters compare the images of models side by side in a browser.

design       who sees what, in which order and on which side; NumPy, no database
database     the tables, in SQLite or Postgres
practice     the drawn examples that raters begin with
creation     a file of prompts and folders of images -> a study
raters       invitations, the question a rater is at, answers
answers      what has been answered, as rows; CSV and JSON lines
statistics   preferences with intervals, Bradley-Terry strengths, Krippendorff's alpha; NumPy and SciPy
report       the tables, the page and the CSV files that come of it
overview     progress, agreement and time per answer, for the owner
pages        the pages as responses; this module and the next import FastAPI
server       the addresses: for raters, and for the owner

A picture here is an image of the study as it is stored; a question is one aspect of one trial.
"""
