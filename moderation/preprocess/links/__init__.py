"""Links in a text: found, brought to one form, and checked.

Embedded content of other sites is not analysed; a sketchy link sends its post to review.
"""

from moderation.preprocess.links.blocklist import Blocklist
from moderation.preprocess.links.check import CheckedLink, KnownDomains, LinkRules, check_links
from moderation.preprocess.links.find import FoundLink, find_links

__all__ = ["Blocklist", "CheckedLink", "FoundLink", "KnownDomains", "LinkRules", "check_links", "find_links"]
