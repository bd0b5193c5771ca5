# Adds up lines of the form `proof | row | count | unit | details`, which the harnesses print, into a table.
BEGIN {
    FS = " *[|] *"
    print "| layer | tried | in detail (the last of several rounds) |"
    print "|---|---|---|"
}
/^proof [|]/ {
    if (!($2 in sum)) order[++rows] = $2
    sum[$2] += $3
    unit[$2] = $4
    details[$2] = $5
}
END {
    for (n = 1; n <= rows; n++) {
        row = order[n]
        printf "| %s | %d %s | %s |\n", row, sum[row], unit[row], details[row]
    }
}
