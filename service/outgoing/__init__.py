"""The way out of the house: HTTP and mail to where others name, never to where only we may go.

It knows neither the engine nor the jobs; both the functions in `jobs` and the platform's own calls go through it.
"""

from service.outgoing.client import Outgoing
from service.outgoing.destinations import AllowedHost, DestinationRefused, Destinations, Resolve, check_url
from service.outgoing.mail_server import MailServer, one_line, split_address

__all__ = [
    "AllowedHost",
    "DestinationRefused",
    "Destinations",
    "MailServer",
    "Outgoing",
    "Resolve",
    "check_url",
    "one_line",
    "split_address",
]
