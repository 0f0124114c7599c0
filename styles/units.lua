-- A number and its unit stay on one line, in Quarto's pages, in the preview and on paper.
local units = { ["%"] = true, ["×"] = true, ["nats"] = true, ["px"] = true, ["GB"] = true, ["MB"] = true, ["GPU"] = true, ["arcsec"] = true }

function Inlines(inlines)
  local changed = false
  for i = #inlines - 2, 1, -1 do
    local number, space, unit = inlines[i], inlines[i + 1], inlines[i + 2]
    if number.t == "Str" and space.t == "Space" and unit.t == "Str" then
      local word = unit.text:match("^(%%)") or unit.text:match("^(×)") or unit.text:match("^%a+")
      if number.text:match("%d$") and word and units[word] then
        inlines[i] = pandoc.Str(number.text .. "\u{a0}" .. unit.text)
        inlines:remove(i + 2)
        inlines:remove(i + 1)
        changed = true
      end
    end
  end
  return changed and inlines or nil -- a list that is returned is read back, which takes time
end
