"""Images and videos on their way in and out: how their bytes arrive, and who scores them.

`fetch` reads a `uri`, within what the configuration allows (`addresses` says which those are); `intake` reads uploads
and base64; both write to files of a scratch folder through a `sink`, so that no medium is ever held in memory whole.
"""
