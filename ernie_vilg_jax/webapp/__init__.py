"""The web page: the options of visitors, the model behind it, and its layout.

options   the page's options for a checkpoint: styles, examples, numbers of steps
request   values from the page or from any other program -> a checked request
worker    runs one request after the other, with previews
guard     refuses large bodies and files before gradio reads them
page      the gradio page; the only module that imports gradio
"""
