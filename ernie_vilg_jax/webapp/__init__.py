"""The page in the browser: what visitors may ask for, the model behind it, and how it is shown.

options   what the page offers for a checkpoint: styles, examples, numbers of steps
request   what arrives from the page or from any other program -> a checked request
worker    one request after the other through the model, with previews
guard     what is refused before gradio reads it: large bodies, files
page      the gradio page; the only module that imports gradio
"""
