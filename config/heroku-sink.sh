#!/bin/sh
# Sets an app's config vars from what standpipe tells on standard input, and unsets those that are gone.
# Heroku restarts the app when a value differs, and not otherwise.
set -eu
: "${HEROKU_APP:?is the name of the app}" "${HEROKU_API_KEY:?is a token that may change its config vars}"

# null unsets a config var (Heroku Platform API, "Config Vars Update"). The second tojson quotes it for curl.
vars=$(jq '(.gone | map({key: ., value: null}) | from_entries) + .variables | tojson | tojson' --raw-output)

# Neither the token nor the values are arguments, which other processes could see.
printf 'header = "Authorization: Bearer %s"\ndata = %s\n' "$HEROKU_API_KEY" "$vars" |
    curl --silent --show-error --fail --max-time 25 --config - \
        --request PATCH "${HEROKU_API:-https://api.heroku.com}/apps/$HEROKU_APP/config-vars" \
        --header 'Accept: application/vnd.heroku+json; version=3' \
        --header 'Content-Type: application/json' >/dev/null
