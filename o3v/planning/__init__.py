"""What a run needs, before it starts: memory, hours, disk and money (`o3v plan`), and what is missing for it.

Everything here is planned from the sizes of the model and of the profile; nothing is measured. The order of the
notebooks is planned elsewhere (`runner.plan`).
"""
