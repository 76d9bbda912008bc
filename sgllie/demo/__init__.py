"""A page in the browser on which one tries the methods on a few photographs, before a job takes a million.

    settings -> server -> page -> session -> photograph, clip -> preview -> chart

`page` knows Gradio, and nothing else does but `server`; what is downloaded comes from the job's own code.
"""
