# Runs one server and ends it when the test that started it is gone.
#
#   sh -c "$(cat watchdog.sh)" watchdog LOG FOLDER FAREWELL PROGRAM [ARGUMENT ...]
#
# Standard input is a pipe whose other end only the test process holds. Each line of it names a signal
# for the server. Its end means that the test dropped the server or died, in whatever way: then the
# server gets the signal FAREWELL, is killed if that does not end it soon, and its folder is removed.

log=$1
folder=$2
farewell=$3
shift 3
exec 3<&0 </dev/null >>"$log" 2>&1

"$@" 3<&- &
server=$!

{
    while read -r signal; do
        kill -s "$signal" "$server"
    done
    : >"$folder/orphaned"
    kill -s "$farewell" "$server"
    sleep 5
    kill -s KILL "$server"
} <&3 2>/dev/null &
listener=$!
exec 3<&-

wait "$server"
status=$?
# The server's number may now become somebody else's: nothing may be sent to it any more.
kill "$listener" 2>/dev/null
if [ -e "$folder/orphaned" ]; then
    rm -rf "$folder"
fi
exit "$status"
